"""Fine-tuning: settings, memory, the loop, and a run that goes on where it stopped."""
