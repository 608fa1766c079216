"""The parts of ``genkan.DynamicBatcher``: who waits, who computes, and how a model is called."""
