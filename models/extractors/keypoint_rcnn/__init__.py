"""Keypoint R-CNN: persons and their 17 COCO keypoints (He et al., ICCV 2017)."""
