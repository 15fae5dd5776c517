"""What `training.score` measures, one file a task."""
