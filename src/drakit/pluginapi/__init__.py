"""The kubelet's plugin protocols over gRPC: registration, DRA and health, both ends of each.

    wire.py          message classes and methods from the checked-in descriptor set; server and channel
    sockets.py       what a plugin's sockets are called
    registration.py  pluginregistration v1: who a plugin is, and whether the kubelet took it
    dra.py           DRA v1 and v1beta1: prepare and unprepare claims
    health.py        dra-health v1 and v1alpha1: the health of devices as a stream
    deviceplugin.py  deviceplugin v1beta1, the kubelet's end: what came before DRA
    cri.py           CRI v1, which the kubelet speaks to container runtimes
    folder.py        what an embedded node says to drivers in its plugins folder

Each protocol is one set of plain structs, whatever its version on the wire, a `...Plugin` protocol that a
server implements, `..._handlers(plugin)` to serve it and a `...Stub` to call it. Protobuf messages stay
inside this package. Belongs here: encoding and sockets. Never: what a claim or a device is for.
"""
