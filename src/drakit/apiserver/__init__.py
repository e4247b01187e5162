"""The Kubernetes API: authentication, admission, validation, storage and watches, over HTTP or in process.

Belongs here: what kube-apiserver does. Never: what a controller, scheduler or kubelet decides.
"""
