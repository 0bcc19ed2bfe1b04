"""YOLOv5 beside the authors' own code: the ultralytics package in the default lane, everything on real video if asked.

`HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow tests/models/test_yolov5_references.py`, where FOLDER holds checkouts of
ultralytics/yolov5 at v5.0 and v7.0, named yolov5-v5.0 and yolov5-v7.0.
"""
