"""RF-DETR-Seg, a detector of single images whose objects are tracked."""
