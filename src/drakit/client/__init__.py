"""Talking to any Kubernetes API: kubeconfig, verbs, informer, work queue. Never imports the server."""
