"""Makes the events of first-light.sh and sends them: seeded, out of order up to the lag.

    events.py make FILE COUNT KEYS SEED          JSON lines, one event each, with the topic partition
    events.py send FILE BOOTSTRAP TOPIC          sends them; topic partition 3 stays silent, one poison record
    events.py trickle BOOTSTRAP TOPIC COUNT      sends COUNT events one by one, 20 ms apart, of now
"""
import json
import random
import sys
import time

BASE_MS = 1_700_000_000_000
LAG_MS = 2_000
SPACING_MS = 0.1  # 10 000 events a second of event time


def make(path, count, keys, seed):
    chance = random.Random(seed)
    with open(path, "w") as out:
        for number in range(count):
            at = BASE_MS + int(number * SPACING_MS) - chance.randrange(LAG_MS)
            event = {"id": number, "k": chance.randrange(keys), "price": chance.randrange(1, 10_000),
                     "ts": at, "note": "x" * 60}
            out.write(f"{chance.randrange(3)}\t{json.dumps(event)}\n")


def producer(bootstrap):
    from confluent_kafka import Producer
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 200_000})


def put(client, topic, partition, payload):
    while True:
        try:
            client.produce(topic, payload, partition=partition)
            return
        except BufferError:
            client.poll(0.05)


def send(path, bootstrap, topic):
    client = producer(bootstrap)
    with open(path) as lines:
        for number, line in enumerate(lines):
            partition, payload = line.rstrip("\n").split("\t", 1)
            put(client, topic, int(partition), payload)
            if number == 1_000:
                put(client, topic, 1, '{"id": 7, "k": "poison", ')
    if client.flush(60):
        sys.exit("not all events were acknowledged")


def trickle(bootstrap, topic, count):
    client = producer(bootstrap)
    for number in range(count):
        event = {"id": -1 - number, "k": number, "price": 1, "ts": int(time.time() * 1000)}
        put(client, topic, 0, json.dumps(event))
        client.flush(10)
        time.sleep(0.02)


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "make":
        make(rest[0], *map(int, rest[1:]))
    elif verb == "send":
        send(*rest)
    elif verb == "trickle":
        trickle(rest[0], rest[1], int(rest[2]))
    else:
        sys.exit(__doc__)
