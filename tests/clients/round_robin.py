"""Calls replicas of leadsd with the load balancing of gRPC's C core: round robin, with or without health checking.

Usage: round_robin.py ADDRESS,ADDRESS,... LEAD_ID health|blind

Calls until standard input ends; fails if any call did. No call is repeated by this program; what the
library repeats by itself is what every caller gets.
"""

import collections
import json
import sys
import threading

import grpc

addresses, lead, knows = sys.argv[1:4]
service_config = {"loadBalancingConfig": [{"round_robin": {}}]}
if knows == "health":
    service_config["healthCheckConfig"] = {"serviceName": "leadsd.v1.LeadsService"}
channel = grpc.insecure_channel(
    f"ipv4:{addresses}",
    options=[
        ("grpc.service_config", json.dumps(service_config)),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ],
)
# GetLeadRequest.id is field 1: one byte of tag, one of length.
request = bytes([0x0A, len(lead)]) + lead.encode()
get_lead = channel.unary_unary("/leadsd.v1.LeadsService/GetLead")

stop = threading.Event()
outcomes = collections.Counter()
lock = threading.Lock()


def call_on():
    while not stop.is_set():
        try:
            get_lead(request, timeout=10, wait_for_ready=True)
            outcome = "OK"
        except grpc.RpcError as error:
            outcome = f"{error.code().name}: {error.details()}"
        with lock:
            outcomes[outcome] += 1
        stop.wait(0.005)


callers = [threading.Thread(target=call_on) for _ in range(8)]
for caller in callers:
    caller.start()
print("calling", flush=True)
sys.stdin.read()
stop.set()
for caller in callers:
    caller.join()
print(dict(outcomes), flush=True)
sys.exit(0 if set(outcomes) == {"OK"} and outcomes["OK"] > 500 else 1)
