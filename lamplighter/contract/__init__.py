"""What worker and control plane say to each other."""
