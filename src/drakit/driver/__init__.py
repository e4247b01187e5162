"""The driver SDK: publish devices, prepare claims, and the kubelet's protocol between them."""
