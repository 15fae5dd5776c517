"""What all trainings share: settings, the loop, a run's beginning and end, provenance."""
