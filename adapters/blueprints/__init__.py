"""Who reads `valohai.yaml` for us."""
