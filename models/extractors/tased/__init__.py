"""TASED-Net: video saliency maps (Min and Corso, ICCV 2019)."""
