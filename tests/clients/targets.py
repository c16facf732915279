"""Makes one call through each target of gRPC's C core, with no channel option that concerns the target.

Usage: targets.py LEAD_ID TARGET...
"""

import sys

import grpc

lead, *targets = sys.argv[1:]
# GetLeadRequest.id is field 1: one byte of tag, one of length.
request = bytes([0x0A, len(lead)]) + lead.encode()
for target in targets:
    # Channels of one process share connections; each call goes through a new one.
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(target, options) as channel:
        get_lead = channel.unary_unary("/leadsd.v1.LeadsService/GetLead")
        for _ in range(3):
            get_lead(request, timeout=10, wait_for_ready=True)

# Targets with different authorities share one connection.
channels = [grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) for target in targets]
for channel in channels * 2:
    get_lead = channel.unary_unary("/leadsd.v1.LeadsService/GetLead")
    get_lead(request, timeout=10, wait_for_ready=True)
print(f"{len(targets)} targets: all as expected")
