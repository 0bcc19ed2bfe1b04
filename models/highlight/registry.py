"""Every highlight model, by the name that recipes use.

To add one: write its file in `generic/` or `personalized/`, import its SPEC, and add a row.
"""

from __future__ import annotations

from models.highlight.base.contract import ModelSpec
from models.highlight.generic import (
    dl_vhd,
    domain_adaptation,
    highlight_me,
    lim,
    mini_net,
    pld_vhd,
    sl_module,
    video2gif,
)
from models.highlight.personalized import (
    a_vhd,
    linear_rankers,
    mha_fusion,
    personalized_summarization,
    phd_gifs,
    pr_net,
)
from models.registry import Registry

HIGHLIGHT_MODELS = Registry(
    "highlight model",
    {
        "a_vhd": a_vhd.A_VHD,
        "dl_vhd": dl_vhd.DL_VHD,
        "dl_vhd_released": dl_vhd.DL_VHD_RELEASED,
        "fcsn": a_vhd.FCSN_SPEC,
        "highlight_me": highlight_me.SPEC,
        "highlight_svm": linear_rankers.HIGHLIGHT_SVM,
        "lim": lim.SPEC,
        "mha_fusion": mha_fusion.SPEC,
        "max_similarity": linear_rankers.MAX_SIMILARITY,
        "mini_net": mini_net.SPEC,
        "personalized_summarization": personalized_summarization.SPEC,
        "phd_ca": phd_gifs.PHD_CA,
        "phd_ca_ed": phd_gifs.PHD_CA_ED,
        "phd_ca_ld": phd_gifs.PHD_CA_LD,
        "phd_ca_svm_d": phd_gifs.PHD_CA_SVM_D,
        "phd_rh": phd_gifs.PHD_RH,
        "phd_sa": phd_gifs.PHD_SA,
        "pld_vhd": pld_vhd.SPEC,
        "pr_net": pr_net.SPEC,
        "residual": linear_rankers.RESIDUAL,
        "sl_mcd": domain_adaptation.SL_MCD,
        "sl_module": sl_module.SL_MODULE,
        "sl_module_released": sl_module.SL_MODULE_RELEASED,
        "sl_revgrad": domain_adaptation.SL_REVGRAD,
        "svm_d": linear_rankers.SVM_D,
        "video2gif": video2gif.VIDEO2GIF,
        "video2gif_ours": video2gif.VIDEO2GIF_OURS,
        "video2gif_svm_d": phd_gifs.VIDEO2GIF_SVM_D,
        "video_mmr": linear_rankers.VIDEO_MMR,
    },
    kind=ModelSpec,
    group="video_highlights.models",
)
