"""The kubelet's plugin protocol over gRPC: message types and services of registration, DRA and health."""
