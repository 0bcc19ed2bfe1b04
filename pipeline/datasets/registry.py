"""Every dataset there is, as a table: its description, the files it is published as, and the
function that reads them.

Refuses to know where this machine keeps anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.datasets.parsing.parsed_dataset import ReadSurvey
from pipeline.datasets.readers import (
    activitynet,
    category_videos,
    cosum,
    dhf1k,
    summe,
    tvsum,
    youtube_highlights,
)
from pipeline.datasets.readers.phd2 import survey_phd2
from storage.base.errors import LookupFailed


@dataclass(frozen=True)
class Published:
    """One thing that a dataset is published as: a file, or a folder of files."""

    setting: str
    """The key that names it, in the section called like the dataset."""
    file: str
    """What it is kept as in the catalog's sources."""
    below: str = ""
    """Regular expression of the paths in the folder that are read; empty: it is one file."""
    names_only: bool = False
    """Whether of these paths only the names are read."""
    needed: bool = True


@dataclass(frozen=True)
class CatalogSpec:
    """One row: a dataset that can become a catalog."""

    description: str
    citation: str
    url: str
    """Where its authors publish it; empty if it is made here."""
    files: Mapping[str, Published]
    """Role → what plays it."""
    read: ReadSurvey
    title: str = ""
    """The word in the name of its task, `Build<title>Features`; empty: it has no task of its
    own.
    """
    on_youtube: bool = True
    """Whether YouTube has the videos. Where it has not, a folder or a mirror is needed."""


_TABLES = {
    "train": Published("training", "training.csv", needed=False),
    "test": Published("testing", "testing.csv", needed=False),
}

CATALOGS: dict[str, CatalogSpec] = {
    "phd2": CatalogSpec(
        description="GIFs that 13,822 people cut from 119,938 YouTube videos; the last video of each is the target",
        citation="Garcia del Molino and Gygli, PHD-GIFs: Personalized Highlight Detection for Automatic GIF Creation, "
        "ACM Multimedia 2018",
        url="https://github.com/gyglim/personalized-highlights-dataset",
        files=_TABLES,
        read=survey_phd2,
        title="PHD2",
    ),
    "youtube-highlights": CatalogSpec(
        description="550 raw videos of six domains, of whose clips is known which went into their users' edited videos",
        citation="Sun, Farhadi and Seitz, Ranking Domain-specific Highlights by Analyzing Edited Videos, ECCV 2014",
        url="https://github.com/aliensunmin/DomainSpecificHighlight",
        files={
            "annotations": Published("annotations", "annotations.zip", youtube_highlights.FILES),
            "umt": Published("umt_splits", "umt_splits.json", needed=False),
        },
        read=youtube_highlights.survey_youtube_highlights,
        title="YouTubeHighlights",
    ),
    "tvsum": CatalogSpec(
        description="50 videos of ten categories, every two-second shot scored from 1 to 5 by 20 people",
        citation="Song, Vallmitjana, Stent and Jaimes, TVSum: Summarizing Web Videos Using Titles, CVPR 2015",
        url="https://github.com/yalesong/tvsum",
        files={
            "annotations": Published("annotations", "ydata-tvsum50.mat"),
            "umt": Published("umt_splits", "umt_splits.json", needed=False),
        },
        read=tvsum.survey_tvsum,
        title="TVSum",
    ),
    "cosum": CatalogSpec(
        description="51 videos of ten queries, whose shots three judges called relevant or not",
        citation="Chu, Song and Jaimes, Video Co-summarization: Video Summarization by Visual Co-occurrence, CVPR 2015",
        url="https://github.com/Blssel/cosum",
        files={"annotations": Published("annotations", "annotations.zip", cosum.FILES)},
        read=cosum.survey_cosum,
        title="CoSum",
    ),
    "summe": CatalogSpec(
        description="25 user videos, summarised by 15 to 18 people each",
        citation="Gygli, Grabner, Riemenschneider and Van Gool, Creating Summaries from User Videos, ECCV 2014",
        url="https://gyglim.github.io/me/vsum/index.html",
        files={"annotations": Published("annotations", "annotations.zip", summe.FILES)},
        read=summe.survey_summe,
        title="SumMe",
        on_youtube=False,
    ),
    "activitynet": CatalogSpec(
        description="ActivityNet v1.3 by the five categories that set-based learning tests on",
        citation="Caba Heilbron, Escorcia, Ghanem and Niebles, ActivityNet, CVPR 2015; categories and list by Xu et "
        "al., Cross-category Video Highlight Detection via Set-based Learning, ICCV 2021",
        url="http://activity-net.org",
        files={
            "annotations": Published("annotations", "activity_net.json"),
            "labels": Published("labels", "label_dict.json"),
            "videos": Published("videos", "videos.txt", needed=False),
        },
        read=activitynet.survey_activitynet,
        title="ActivityNet",
    ),
    "dhf1k": CatalogSpec(
        description="1,000 videos with a map for each frame of what people looked at",
        citation="Wang, Shen, Guo, Cheng and Borji, Revisiting Video Saliency: A Large-scale Benchmark and a New "
        "Model, CVPR 2018",
        url="https://github.com/wenguanwang/DHF1K",
        files={"annotations": Published("annotations", "maps.txt", dhf1k.FILES, names_only=True)},
        read=dhf1k.survey_dhf1k,
        title="DHF1K",
        on_youtube=False,
    ),
    "sample": CatalogSpec(
        description="two minutes of drawn video with planted preferences, in PHD2's format",
        citation="none: it is drawn by pipeline.synthetic.user_videos",
        url="",
        files=_TABLES,
        read=survey_phd2,
    ),
    "sample-large": CatalogSpec(
        description="the same with half an hour of video and 80 users, for trying models",
        citation="none: it is drawn by pipeline.synthetic.user_videos",
        url="",
        files=_TABLES,
        read=survey_phd2,
    ),
    "category-sample": CatalogSpec(
        description="drawn videos of four domains whose segments are highlights or not, for trying category models",
        citation="none: it is drawn by pipeline.synthetic.category_videos",
        url="",
        files={"segments": Published("segments", category_videos.SEGMENTS)},
        read=category_videos.survey_category_sample,
        title="CategorySample",
    ),
}
"""Dataset → how it is read."""


def catalog_spec(name: str) -> CatalogSpec:
    """The row of that name; raises `LookupFailed` listing the names there are."""
    if name not in CATALOGS:
        raise LookupFailed(
            f"no dataset is called {name!r}; known are {', '.join(sorted(CATALOGS))}"
        )
    return CATALOGS[name]
