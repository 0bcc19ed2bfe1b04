"""The registry of datasets: description, published files, and the function that reads them.

Paths on this machine are not stored here; they are settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from models.plugin_errors import EXPECTED, describe, place_in_package
from models.registry import PluginError, Registry
from pipeline.datasets.parsing.parsed_dataset import DatasetReader, ParsedDataset
from pipeline.datasets.readers import (
    activitynet,
    category_videos,
    cosum,
    dhf1k,
    summe,
    tvsum,
    youtube_highlights,
)
from pipeline.datasets.readers.phd2 import read_phd2
from storage.base.errors import DatasetError, LookupFailed, SettingsError
from storage.base.records import JSON


@dataclass(frozen=True)
class SourceFile:
    """One published part of a dataset: a file, or a folder of files."""

    setting: str
    """Its key in the settings section that is named after the dataset."""
    file: str
    """File name of the copy in the catalog's sources."""
    pattern: str = ""
    """Regular expression of the paths in a folder that are read; empty for a single file."""
    names_only: bool = False
    """Whether only the names of these paths are read, not their content."""
    required: bool = True
    description: str = ""
    """What the setting names, for the settings page."""
    read: Callable[[str], bytes] | None = None
    """Path or address → the bytes that are kept; None: those of the file, or by the pattern."""


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset that can become a catalog."""

    description: str
    citation: str
    url: str
    """Where its authors publish it; empty for a synthetic dataset."""
    files: Mapping[str, SourceFile]
    """Role, as the reader expects it → the published part."""
    read: DatasetReader
    title: str = ""
    """The word in its task's name, `Build<title>Features`; empty if it has no task of its own."""
    is_synthetic: bool = False
    """Whether its files are generated on this machine, so that no setting names them."""
    on_youtube: bool = True
    """Whether YouTube has the videos. If not, a folder or a mirror is needed."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Settings besides the files that decide what the reader makes of them."""
    is_own: bool = False
    """Whether these are a user's own videos (`pipeline.datasets.own_videos`)."""


_TABLES = {
    "train": SourceFile(
        "training",
        "training.csv",
        required=False,
        description="A path or an http(s) address of the published file. May be empty.",
    ),
    "test": SourceFile(
        "testing",
        "testing.csv",
        required=False,
        description="The same of the test split. If both are empty, the embedded sample is built.",
    ),
}

DATASETS = Registry(
    "dataset",
    {
        "phd2": DatasetSpec(
            description="GIFs that 13,822 people cut from 119,938 YouTube videos; "
            "the last video of each person is the target",
            citation="Garcia del Molino and Gygli, PHD-GIFs: Personalized Highlight Detection for "
            "Automatic GIF Creation, ACM Multimedia 2018",
            url="https://github.com/gyglim/personalized-highlights-dataset",
            files=_TABLES,
            read=read_phd2,
            title="PHD2",
        ),
        "youtube-highlights": DatasetSpec(
            description="550 raw videos of six domains, with labels for the clips that their users "
            "selected for edited videos",
            citation="Sun, Farhadi and Seitz, Ranking Domain-specific Highlights by Analyzing "
            "Edited Videos, ECCV 2014",
            url="https://github.com/aliensunmin/DomainSpecificHighlight",
            files={
                "annotations": SourceFile(
                    "annotations",
                    "annotations.zip",
                    youtube_highlights.FILES,
                    description="The folder github.com/aliensunmin/DomainSpecificHighlight, "
                    "or a ZIP of it.",
                ),
                "umt": SourceFile(
                    "umt_splits",
                    "umt_splits.json",
                    required=False,
                    description="May be empty. A JSON file {domain: {train: [ids], val: [ids]}}: "
                    "the "
                    "split that UMT and later work use.",
                ),
            },
            read=youtube_highlights.read_youtube_highlights,
            title="YouTubeHighlights",
        ),
        "tvsum": DatasetSpec(
            description="50 videos of ten categories, with scores of 1 to 5 by 20 people for every "
            "two-second shot",
            citation="Song, Vallmitjana, Stent and Jaimes, TVSum: Summarizing Web Videos Using "
            "Titles, CVPR 2015",
            url="https://github.com/yalesong/tvsum",
            files={
                "annotations": SourceFile(
                    "annotations",
                    "ydata-tvsum50.mat",
                    description="ydata-tvsum50.mat of github.com/yalesong/tvsum.",
                ),
                "umt": SourceFile(
                    "umt_splits",
                    "umt_splits.json",
                    required=False,
                    description="May be empty. A JSON file {domain: {train: [ids], val: [ids]}}: "
                    "the "
                    "split that UMT and later work use.",
                ),
            },
            read=tvsum.read_tvsum,
            title="TVSum",
        ),
        "cosum": DatasetSpec(
            description="51 videos of ten queries, with three judges' choice of relevant shots",
            citation="Chu, Song and Jaimes, Video Co-summarization: Video Summarization by Visual "
            "Co-occurrence, CVPR 2015",
            url="https://github.com/Blssel/cosum",
            files={
                "annotations": SourceFile(
                    "annotations",
                    "annotations.zip",
                    cosum.FILES,
                    description="The folder github.com/Blssel/cosum, or a ZIP of it.",
                )
            },
            read=cosum.read_cosum,
            title="CoSum",
        ),
        "summe": DatasetSpec(
            description="25 user videos, each summarised by 15 to 18 people",
            citation="Gygli, Grabner, Riemenschneider and Van Gool, Creating Summaries from User "
            "Videos, ECCV 2014",
            url="https://gyglim.github.io/me/vsum/index.html",
            files={
                "annotations": SourceFile(
                    "annotations",
                    "annotations.zip",
                    summe.FILES,
                    description="The folder GT of SumMe.zip, or a folder or ZIP that holds it. "
                    "Name the "
                    "folder with the videos in [download] source.",
                )
            },
            read=summe.read_summe,
            title="SumMe",
            on_youtube=False,
        ),
        "activitynet": DatasetSpec(
            description="ActivityNet v1.3 by the five categories that set-based learning tests on",
            citation="Caba Heilbron, Escorcia, Ghanem and Niebles, ActivityNet, CVPR 2015; "
            "categories and list by Xu et al., Cross-category Video Highlight Detection via "
            "Set-based Learning, ICCV 2021",
            url="http://activity-net.org",
            files={
                "annotations": SourceFile(
                    "annotations",
                    "activity_net.json",
                    description="activity_net.v1-3.min.json of activity-net.org.",
                ),
                "labels": SourceFile(
                    "labels",
                    "label_dict.json",
                    description="label_dict.json of github.com/ChrisAllenMing/"
                    "Cross_Category_Video_Highlight: label to category.",
                ),
                "videos": SourceFile(
                    "videos",
                    "videos.txt",
                    required=False,
                    description="May be empty, for all videos. ActivityNet_vids.txt of the same "
                    "repository: the 3,316 videos of set-based learning.",
                ),
            },
            read=activitynet.read_activitynet,
            title="ActivityNet",
        ),
        "dhf1k": DatasetSpec(
            description="1,000 videos with a map of people's gaze for each frame",
            citation="Wang, Shen, Guo, Cheng and Borji, Revisiting Video Saliency: A Large-scale "
            "Benchmark and a New Model, CVPR 2018",
            url="https://github.com/wenguanwang/DHF1K",
            files={
                "annotations": SourceFile(
                    "annotations",
                    "maps.txt",
                    dhf1k.FILES,
                    names_only=True,
                    description="The folder annotation with a folder maps for each video. Name the "
                    "folder "
                    "with the videos in [download] source.",
                )
            },
            read=dhf1k.read_dhf1k,
            title="DHF1K",
            on_youtube=False,
        ),
        "sample": DatasetSpec(
            description="two minutes of synthetic video with known preferences, in PHD2's format",
            citation="none: it is generated by pipeline.synthetic.user_videos",
            url="",
            is_synthetic=True,
            files=_TABLES,
            read=read_phd2,
        ),
        "sample-large": DatasetSpec(
            description="the same with half an hour of video and 80 users, for trying models",
            citation="none: it is generated by pipeline.synthetic.user_videos",
            url="",
            is_synthetic=True,
            files=_TABLES,
            read=read_phd2,
        ),
        "category-sample": DatasetSpec(
            description="synthetic videos of four domains with a label for each segment, for "
            "trying category models",
            citation="none: it is generated by pipeline.synthetic.category_videos",
            url="",
            is_synthetic=True,
            files={"segments": SourceFile("segments", category_videos.SEGMENTS)},
            read=category_videos.read_category_sample,
            title="CategorySample",
        ),
    },
    kind=DatasetSpec,
    group="video_highlights.datasets",
)
"""Dataset → how it is read."""


def dataset_spec(name: str) -> DatasetSpec:
    """The dataset of that name, ours or a plug-in's.

    Raises LookupFailed, which lists the known names or says what is wrong with the plug-in.
    """
    try:
        spec = DATASETS[name]
    except (KeyError, PluginError) as error:
        raise LookupFailed(str(error.args[0])) from error
    if name not in DATASETS.plugins:
        return spec
    return replace(spec, read=_PluginReader(name, spec.read))


@dataclass(frozen=True)
class _PluginReader:
    """Calls the reader of a plug-in; its mistakes, and those of its files, raise DatasetError."""

    name: str
    reader: DatasetReader

    def __call__(
        self, sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
    ) -> ParsedDataset:
        plugin = DATASETS.plugins[self.name]
        owner = f"the reader of {self.name}, from {plugin.distribution} {plugin.version},"
        try:
            parsed: object = self.reader(sources, name=name, shard_count=shard_count)
        except SettingsError as error:
            raise DatasetError(error.faults) from error
        except EXPECTED as error:
            place = place_in_package(error, DATASETS.plugin_package(self.name))
            where = f" in {place}" if place else ""
            raise DatasetError((f"{owner} failed{where}: {describe(error)}",)) from error
        if not isinstance(parsed, ParsedDataset):
            raise DatasetError(
                (f"{owner} returned a {type(parsed).__name__}; it must return a ParsedDataset",)
            )
        if parsed.catalog.name != name:
            raise DatasetError(
                (f"{owner} named its catalog {parsed.catalog.name!r}; it must be {name!r}",)
            )
        return parsed
