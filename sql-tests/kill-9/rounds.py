"""The rounds of kill-9.sh: one server on one data directory, killed and started again.

    rounds.py BINARY BOOTSTRAP FOLDER ROUNDS

A producer appends the integers 0, 1, 2, … to the topic `ids` all the time. Jobs copy them into a table
with a key, into one without (where a row that came twice would stand twice) and into the topic `out`. A client writes rows of its own and remembers what was acknowledged.
"""
import os
import random
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 4
PATIENCE_S = 90
IDS_PER_SECOND = 4_000

JOB = "OPTIONS ('processingGuarantee' = 'exactlyOnce', 'snapshotIntervalMillis' = '100') AS"
OBJECTS = [
    "CREATE TABLE keyed (id BIGINT PRIMARY KEY)",
    "CREATE TABLE keyless (id BIGINT)",
    "CREATE TABLE mine (k BIGINT PRIMARY KEY, v BIGINT)",
    "CREATE VIEW seen AS SELECT count(*) AS n FROM keyless",
    f"CREATE JOB into_keyed {JOB} INSERT INTO keyed SELECT this::BIGINT FROM ids",
    f"CREATE JOB into_keyless {JOB} INSERT INTO keyless SELECT this::BIGINT FROM ids",
    f"CREATE JOB into_topic {JOB} INSERT INTO out SELECT this FROM ids",
]
JOBS = 3


def fail(text):
    raise SystemExit(f"FAILED: {text}")


class Server:
    """The server on its data directory."""

    def __init__(self, binary, folder):
        self.command = [binary, "--listen", "127.0.0.1:0", "--data-dir", os.path.join(folder, "data")]
        self.log = open(os.path.join(folder, "log"), "a")
        self.start()

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready on "):
            fail(f"it does not start again: {open(self.log.name).read()[-2000:]}")
        self.port = line.rsplit(":", 1)[1].strip()
        return time.monotonic() - began

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def run(self, sql, may_fail=False):
        command = ["psql", "-X", "-q", "-At", "-h", "127.0.0.1", "-p", self.port, "-U", "demo", "-d", "demo",
                   "-v", "ON_ERROR_STOP=1", "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode != 0 and not may_fail:
            fail(f"{sql}: {done.stderr}")
        return done.stdout.strip() if done.returncode == 0 else None

    def number(self, sql):
        return int(self.run(sql))


class Ids(threading.Thread):
    """Produces integers until it is stopped."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self.stopped = threading.Event()
        self.count = 0

    def run(self):
        while not self.stopped.is_set():
            for _ in range(IDS_PER_SECOND // 20):
                self.producer.produce("ids", str(self.count), partition=self.count % PARTITIONS)
                self.count += 1
            self.producer.poll(0)
            self.stopped.wait(1 / 20)
        if self.producer.flush(PATIENCE_S):
            fail("not all ids were acknowledged")


class Client(threading.Thread):
    """Writes rising numbers to one key until its connection breaks."""

    def __init__(self, port, first):
        super().__init__(daemon=True)
        self.command = ["psql", "-X", "-q", "-At", "-h", "127.0.0.1", "-p", port, "-U", "demo", "-d", "demo"]
        self.acknowledged, self.asked = first, first
        self.start()

    def run(self):
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        try:
            while True:
                number = self.asked + 1
                self.asked = number
                process.stdin.write(f"INSERT INTO mine VALUES (1, {number}), (2, {number}) ON CONFLICT (k) "
                                    "DO UPDATE SET v = excluded.v RETURNING v;\n")
                process.stdin.flush()
                for _ in range(2):
                    if process.stdout.readline().strip() != str(number):
                        raise BrokenPipeError
                self.acknowledged = number
        except BrokenPipeError:
            process.kill()
            process.wait()


def committed(bootstrap, topic):
    """The ids a consumer of committed messages reads, to the end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, part, 0) for part in range(PARTITIONS)])
    ids, ends = [], set()
    while len(ends) < PARTITIONS:
        message = consumer.poll(PATIENCE_S)
        if message is None:
            fail(f"{topic} has no end")
        if message.error():
            ends.add(message.partition())
        else:
            ids.append(int(message.value()))
    consumer.close()
    return ids


def check(what, ids, count):
    ids.sort()
    if ids != list(range(count)):
        fail(f"{what}: {len(ids)} ids, {len(set(ids))} different, of {count}")


def check_round(server, client, number):
    """What must be there right after a start."""
    rows = server.run("SELECT v FROM mine ORDER BY k").split()
    if client.acknowledged and (len(set(rows)) != 1 or len(rows) != 2):
        fail(f"round {number}: half of a statement: {rows}")
    value = int(rows[0]) if rows else 0
    if not client.acknowledged <= value <= client.asked:
        fail(f"round {number}: {value}, acknowledged {client.acknowledged}, asked {client.asked}")
    # Long once there are millions.
    if number % 10 == 9 and server.run("SELECT count(*) - count(DISTINCT id) FROM keyless") != "0":
        fail(f"round {number}: rows stand twice")
    server.run("SELECT n FROM seen")
    return value


def wait_for(server, what, sql, is_enough):
    end = time.monotonic() + PATIENCE_S
    while True:
        found = server.run(sql)
        if is_enough(found):
            return found
        if time.monotonic() > end:
            fail(f"{what}: {found}; " + server.run("SELECT name, status, last_error FROM sys.jobs"))
        time.sleep(0.02)


def main():
    binary, bootstrap, folder, rounds = sys.argv[1:5]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in ("ids", "out")]).values():
        future.result(PATIENCE_S)
    server = Server(binary, folder)
    options = f"'bootstrap.servers' = '{bootstrap}', 'valueFormat' = 'varchar'"
    server.run(f"CREATE MAPPING ids (this VARCHAR) TYPE Kafka OPTIONS ({options}, 'auto.offset.reset' = 'earliest')")
    server.run(f"CREATE MAPPING out (this VARCHAR) TYPE Kafka OPTIONS ({options})")
    for statement in OBJECTS:
        server.run(statement)
    ids = Ids(bootstrap)
    ids.start()
    chance, written, starts = random.Random(9), 0, []
    for number in range(int(rounds)):
        client = Client(server.port, written)
        before = int(server.run("SELECT count(*) FROM keyed"))
        # The jobs go on by themselves, and the next blow may come at any moment of that.
        if number % 5 == 0:
            wait_for(server, "the jobs do not go on", "SELECT count(*) FROM keyed", lambda n: int(n) > before)
        time.sleep(chance.random() * 0.8)
        server.kill()
        client.join(PATIENCE_S)
        starts.append(server.start())
        written = check_round(server, client, number)
        if number % 10 == 9:
            print(f"{number + 1} rounds, {ids.count} ids, {written} statements", flush=True)
    ids.stopped.set()
    ids.join(PATIENCE_S)
    for table in ("keyed", "keyless"):
        wait_for(server, f"{table} is not complete", f"SELECT count(*) FROM {table}",
                 lambda n: int(n) >= ids.count)
        found = server.run(f"SET read_mode = durable; SELECT id FROM {table}").split()
        check(table, [int(text) for text in found], ids.count)
    end = time.monotonic() + PATIENCE_S
    while len(committed(bootstrap, "out")) < ids.count and time.monotonic() < end:
        time.sleep(0.5)
    check("topic", committed(bootstrap, "out"), ids.count)
    running = server.run("SELECT count(*) FROM sys.jobs WHERE status = 'RUNNING'")
    if running != str(JOBS):
        fail(server.run("SELECT * FROM sys.jobs"))
    server.kill()
    starts.sort()
    print(f"kill -9: {rounds} rounds, {ids.count} ids once each in both tables and the topic, {written} statements; "
          f"started again in {starts[len(starts) // 2]:.2f} s (median), {starts[-1]:.2f} s (longest)")


main()
