"""What kube-controller-manager does for users of DRA, each controller a client of the API."""
