"""The rounds of exactly-once.sh: one server, one failpoint, one seed each.

    rounds.py BINARY BOOTSTRAP FOLDER SEEDS PLACE…

In a round two jobs copy the topic `ids`, one into a table and one into a topic of the round's own. The
execution that passes the place for the so-manieth time is lost there; which one, the seed decides. The
jobs are exported from, suspended and resumed once, so that places of a start and of a stop are passed too.
"""
import os
import random
import subprocess
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

IDS = 60_000
PARTITIONS = 4
PATIENCE_S = 60
# Places that a round passes only a few times.
RARE = ("start.", "topic.open", "topic.fence", "topic.mark", "topic.resend", "topic.settled", "sink.completed",
        "sink.settled", "snapshot.abandon", "snapshot.export", "source.complete", "processor.complete")


# Places that are passed only after another loss, and where that is to be.
AFTER = {"topic.resend": "topic.commit", "start.settle": "snapshot.committed"}
# Places that are passed once, by an export.
EXPORT = ("snapshot.export", "snapshot.exported", "snapshot.abandon")


class Server:
    def __init__(self, binary, folder, failpoint):
        config = os.path.join(folder, "config.toml")
        with open(config, "w") as out:
            out.write(f'failpoint = "{failpoint}"\n')
        self.log = open(os.path.join(folder, "log"), "w")
        self.process = subprocess.Popen([binary, "--in-memory", "--listen", "127.0.0.1:0", "--config", config],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port = self.process.stdout.readline().rsplit(":", 1)[1].strip()

    def run(self, sql, may_fail=False):
        command = ["psql", "-X", "-q", "-At", "-h", "127.0.0.1", "-p", self.port, "-U", "demo", "-d", "demo",
                   "-v", "ON_ERROR_STOP=1", "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode != 0 and not may_fail:
            raise SystemExit(f"{sql}: {done.stderr}")
        return done.stdout.strip()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.log.close()
        if code != 0:
            raise SystemExit(f"SIGTERM ended with {code}")


def make_topic(admin, name, partitions):
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(PATIENCE_S)


def send_ids(bootstrap):
    producer = Producer({"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 2 * IDS})
    for number in range(IDS):
        producer.produce("ids", str(number), partition=number % PARTITIONS)
    if producer.flush(PATIENCE_S):
        raise SystemExit("not all ids were acknowledged")


def committed(bootstrap, topic):
    """The ids a consumer of committed messages reads, to the end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "enable.partition.eof": True})
    parts = [TopicPartition(topic, part, 0) for part in range(PARTITIONS)]
    consumer.assign(parts)
    ids, ends = [], set()
    while len(ends) < PARTITIONS:
        message = consumer.poll(PATIENCE_S)
        if message is None:
            raise SystemExit(f"{topic} has no end")
        if message.error():
            ends.add(message.partition())
        else:
            ids.append(int(message.value()))
    consumer.close()
    return ids


def check(what, ids):
    ids.sort()
    if ids != list(range(IDS)):
        raise SystemExit(f"FAILED: {what}: {len(ids)} ids, {len(set(ids))} different, of {IDS}")


def play(binary, bootstrap, folder, admin, place, seed):
    """One round; whether an execution was lost."""
    chance = random.Random(f"{place} {seed}")
    passes = chance.randrange(2 if place.startswith(RARE) else 8)
    failpoint = f"{place}:{passes}"
    if place in EXPORT:
        failpoint = f"{place}:0"
    if place in AFTER:
        failpoint = f"{AFTER[place]}:{passes}, {place}:0"
    out = f"out-{place}-{seed}".replace("_", "-")
    make_topic(admin, out, PARTITIONS)
    server = Server(binary, folder, failpoint)
    options = f"'bootstrap.servers' = '{bootstrap}'"
    server.run(f"CREATE MAPPING ids (this VARCHAR) TYPE Kafka OPTIONS ({options}, 'valueFormat' = 'varchar', "
               "'auto.offset.reset' = 'earliest', 'end_offset' = 'latest')")
    server.run(f"CREATE MAPPING out EXTERNAL NAME \"{out}\" (this VARCHAR) TYPE Kafka OPTIONS ({options}, "
               "'valueFormat' = 'varchar')")
    server.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    job = "OPTIONS ('processingGuarantee' = 'exactlyOnce', 'snapshotIntervalMillis' = '20') AS"
    # A job that is lost while it is created is not there; who asked for it asks again.
    creations = [f"CREATE JOB IF NOT EXISTS into_table {job} INSERT INTO t SELECT this::BIGINT FROM ids",
                 f"CREATE JOB IF NOT EXISTS into_topic {job} INSERT INTO out SELECT this FROM ids"]
    for creation in creations:
        server.run(creation, may_fail=True)
        server.run(creation)
    if place not in EXPORT:
        time.sleep(chance.random() * 0.2)
    server.run("CREATE SNAPSHOT s FOR JOB into_topic", may_fail=True)
    server.run("ALTER JOB into_table SUSPEND", may_fail=True)
    server.run("ALTER JOB into_topic SUSPEND", may_fail=True)
    end = time.monotonic() + PATIENCE_S
    while True:
        states = dict(line.split("|") for line in server.run("SELECT name, status FROM sys.jobs").splitlines())
        if set(states.values()) == {"COMPLETED"}:
            break
        for name, status in states.items():
            if status == "SUSPENDED":
                server.run(f"ALTER JOB {name} RESUME", may_fail=True)
            if status == "FAILED" or time.monotonic() > end:
                raise SystemExit(f"FAILED: {place}, seed {seed}: " + server.run("SELECT * FROM sys.jobs"))
    check(f"{place}, seed {seed}: table", [int(line) for line in server.run("SELECT id FROM t").splitlines()])
    check(f"{place}, seed {seed}: topic", committed(bootstrap, out))
    server.stop()
    admin.delete_topics([out])
    with open(os.path.join(folder, "log")) as log:
        return log.read().count("failpoint hit") == failpoint.count(":")


def main():
    binary, bootstrap, folder, seeds = sys.argv[1:5]
    places = sys.argv[5:]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    make_topic(admin, "ids", PARTITIONS)
    send_ids(bootstrap)
    started = time.monotonic()
    rounds = lost = 0
    for place in places:
        of_place = sum(play(binary, bootstrap, folder, admin, place, seed) for seed in range(int(seeds)))
        print(f"{place}: {seeds} rounds, lost in {of_place}, each id once", flush=True)
        rounds, lost = rounds + int(seeds), lost + of_place
    took = time.monotonic() - started
    print(f"exactly once: {len(places)} failpoints, {rounds} rounds, lost in {lost}, {took:.0f} s")


main()
