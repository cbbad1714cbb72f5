"""What our agent needs of SimulEval's documented interface, for environments that the real one cannot be installed in."""
