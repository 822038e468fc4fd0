"""CaDRL and CaDRL⁺ (paper §VI-A2): a policy trained by interior-point policy optimisation for every problem."""
