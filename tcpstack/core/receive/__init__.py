"""The half that we hear: reassembly, the window that we offer, and when to acknowledge."""
