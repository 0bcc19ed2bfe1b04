"""Every recipe that comes with the project: it loads, its full width is what it was, and at [small] it runs."""

from __future__ import annotations

import torch

from trainer.recipe import load_recipe, recipe_names

SHAPES = {
    "c3d/pool5": (8192,),
    "yolov5/p5": (512, 4, 4),
    "keypoint_rcnn/joints": (5, 17, 3),
    "keypoint_rcnn/joint_features": (5, 17, 512),
}
"""What the extractors' default settings keep of a row."""

PARAMETERS = {
    "a_vhd": 197_357_844,
    "a_vhd_convolution": 147_216_788,
    "fcsn": 37_954_836,
    "highlight_me": 72_323,
    "highlight_svm": 8_193,
    "max_similarity": 0,
    "mha_fusion": 13_844_608,
    "mha_fusion_objects": 7_395_681,
    "mha_fusion_poses": 6_514_975,
    "personalized_summarization": 0,
    "phd_ca": 8_422_017,
    "phd_ca_ed": 8_432_257,
    "phd_ca_ld": 8_422_037,
    "phd_ca_svm_d": 8_422_038,
    "phd_rh": 22_287_361,
    "phd_sa": 2_097_682,
    "pr_net": 22_311_936,
    "pr_net_mean_u": 22_311_424,
    "pr_net_residual": 23_089_152,
    "pr_net_u": 22_311_424,
    "residual": 4_235_907,
    "svm_d": 21,
    "video2gif": 35_721_985,
    "video2gif_ours": 4_227_713,
    "video2gif_svm_d": 4_227_734,
    "video_mmr": 0,
}
"""Of the networks at full width; FCSN's is what its author's code has (37.95 million)."""

SAME_NETWORK = {
    "video2gif": ("video2gif_l1",),
    "pr_net": ("ce", "g", "h0", "h5", "literal", "mean_u_g", "ranking", "triplet"),
    "mha_fusion": (
        "0", "10", "5", "literal", "no_label", "no_label_literal", "no_margin", "no_margin_literal", "no_sparsity"
    ),
}  # fmt: skip
"""Recipe → the ablations that change its training and nothing of its size."""


def test_full_widths_have_as_many_parameters_as_they_had() -> None:
    found = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        with torch.device("meta"):
            model = recipe.spec.build(recipe.model_settings, {key: SHAPES[key] for key in recipe.data.arrays})
        found[name] = sum(parameter.numel() for parameter in model.parameters())
    same = {
        child if child.startswith(parent) else f"{parent}_{child}": PARAMETERS[parent]
        for parent, children in SAME_NETWORK.items()
        for child in children
    }
    assert found == PARAMETERS | same
