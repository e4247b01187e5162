"""The kubelet's part: pods of this node, prepared claims, plugin registration, container runtimes."""
