"""YOLOv5: detected objects of every COCO class."""
