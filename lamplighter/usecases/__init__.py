"""What people, workers and clocks can ask of Lamplighter; one module per wish."""
