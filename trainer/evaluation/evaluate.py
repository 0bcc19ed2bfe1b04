"""Evaluates scores of a split by the protocol of the catalog's dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storage.catalog.catalog import Catalog
from storage.scores import ScoreRun
from trainer.data.labels.annotator_labels import label_rule
from trainer.data.labels.segment_times import SegmentTimes
from trainer.data.labels.splits import split_videos, without_absent_domain
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Split, split_users
from trainer.evaluation import domain_protocol, phd2_protocol, summary_protocol
from trainer.evaluation.statistics import Evaluation


def evaluate_scores(
    catalog: Catalog, folder: Path, settings: DataSettings, split: Split, answers: ScoreRun
) -> Evaluation:
    """Metrics of the answers about a split's users, or a domain's videos.

    `folder` is `ROOT/<catalog>`; its features convert annotations in frame numbers to seconds.
    """
    if label_rule(catalog) is None:
        users = split_users(catalog, split, settings)[0]
        durations = phd2_protocol.scored_durations(answers.tracks.values())
        truth = phd2_protocol.find_targets(catalog, split, phd2_protocol.PHD2, durations, users)
        return phd2_protocol.evaluate(truth, answers.tracks, answers.absent)
    if catalog.origin.get("reader") == summary_protocol.SUMMARIES:
        return _summaries(catalog, split_videos(catalog, split, settings, domain="")[0], answers)
    settings, _ = without_absent_domain(catalog, settings)
    domains = [settings.domain] if settings.domain else []
    videos = domain_protocol.evaluated_videos(catalog, split, settings, domains)
    return domain_protocol.evaluate(videos, answers, SegmentTimes(folder, catalog))


def _summaries(catalog: Catalog, ids: Sequence[str], answers: ScoreRun) -> Evaluation:
    truth = summary_protocol.reference_summaries(catalog, ids, summary_protocol.fixed_length_shots)
    return summary_protocol.evaluate_summaries(
        catalog,
        truth,
        summary_protocol.frame_scores_of(answers),
        summary_protocol.FIXED_LENGTH_SHOTS,
    )
