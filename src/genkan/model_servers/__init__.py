"""Model servers that genkan starts beside the gateway, vLLM and SGLang: their command lines, lives and metrics."""
