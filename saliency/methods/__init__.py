"""The saliency methods, one a file: functions (scorer, pixels, targets) -> maps."""
