"""Training and scoring, each a module to run: `python -m training.train_vqa --help`."""
