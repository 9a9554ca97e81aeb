"""The method on tensors alone: schedules, fusion, losses, pseudo-labels."""
