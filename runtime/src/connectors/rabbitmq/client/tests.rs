//! The client against a socket that says what a broker would.

use std::{net::TcpListener, thread::JoinHandle};

use parking_lot::Mutex;
use storage::{Grid, GridConfig, env::Env};

use super::*;
use crate::testing;

/// A broker's end of a connection.
struct Peer {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, heard: Vec::new() }
    }

    /// Waits until those bytes have come, and forgets all up to them.
    fn expect(&mut self, bytes: &[u8]) {
        loop {
            if let Some(at) = self.heard.windows(bytes.len()).position(|window| window == bytes) {
                self.heard.drain(..at + bytes.len());
                return;
            }
            let mut more = [0; 1024];
            let read = self.stream.read(&mut more).expect("it says nothing");
            assert!(read > 0, "it has hung up before {bytes:?}");
            self.heard.extend(&more[..read]);
        }
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(0xce);
        self.stream.write_all(&bytes).unwrap();
    }

    fn method(&mut self, channel: u16, class: u8, method: u8, arguments: &[u8]) {
        let mut payload = vec![0, class, 0, method];
        payload.extend(arguments);
        self.frame(1, channel, &payload);
    }

    /// Until the client asks for messages.
    fn welcome(&mut self) {
        self.expect(GREETING);
        self.method(0, 10, 10, &[0, 9, 0, 0, 0, 0, 0, 0, 0, 5, b'P', b'L', b'A', b'I', b'N']);
        self.expect(b"\0me\0secret");
        self.method(0, 10, 30, &[0, 0, 0, 2, 0, 0, 0, 60]);
        self.expect(&[0, 10, 0, 40]);
        self.method(0, 10, 41, &[0]);
        self.expect(&[0, 20, 0, 10]);
        self.method(1, 20, 11, &[0, 0, 0, 0]);
        self.expect(&[0, 60, 0, 10]);
        self.method(1, 60, 11, &[]);
        self.expect(&[0, 60, 0, 20]);
    }

    fn deliver(&mut self, tag: u8, id: u8, bodies: &[&[u8]]) {
        self.method(1, 60, 60, &[1, b'c', 0, 0, 0, 0, 0, 0, 0, tag, 0, 0, 1, b'q']);
        let mut header = vec![0, 60, 0, 0];
        let length: usize = bodies.iter().map(|body| body.len()).sum();
        header.extend((length as u64).to_be_bytes());
        header.extend([0, 0x80, 1, id]);
        self.frame(2, 1, &header);
        bodies.iter().for_each(|body| self.frame(3, 1, body));
    }
}

struct Bench {
    link: Box<dyn Link>,
    troubles: Arc<Mutex<Vec<bool>>>,
    broker: JoinHandle<()>,
}

/// A client, and a broker that does that with the connections it accepts.
fn bench(play: impl FnOnce(TcpListener) + Send + 'static) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://me:secret@{}", listener.local_addr().unwrap());
    let options = [("url", url.as_str()), ("valueFormat", "raw")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::read("q", &options.into()).unwrap();
    let grid = Grid::open(GridConfig::default(), Env::real()).unwrap();
    let troubles: Arc<Mutex<Vec<bool>>> = Arc::default();
    let told = Arc::clone(&troubles);
    let context = ProcessorContext {
        trouble: Arc::new(move |trouble| told.lock().push(trouble.is_some())),
        ..testing::context(&grid)
    };
    let broker = std::thread::spawn(move || play(listener));
    let link = RealBroker::new(settings).link(&context).unwrap();
    Bench { link, troubles, broker }
}

impl Bench {
    fn next(&mut self) -> Event {
        for _ in 0..20_000 {
            if let Some(event) = self.link.next() {
                return event;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("nothing happens");
    }
}

#[test]
fn messages_come_acknowledgements_go_and_an_outage_ends() {
    let mut bench = bench(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.welcome();
        peer.method(1, 60, 21, &[1, b'c']);
        peer.deliver(1, b'a', &[b"one"]);
        peer.deliver(2, b'b', &[b"t", b"wo"]);
        peer.expect(&[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        peer.expect(&[0, 60, 0, 10]);
        peer.method(1, 60, 11, &[]);
        peer.deliver(3, b'c', &[]);
        drop(peer);
        let mut peer = Peer::accept(&listener);
        peer.welcome();
        peer.method(1, 60, 21, &[1, b'c']);
        // The client ends it in good order.
        peer.expect(&[0, 10, 0, 50]);
        peer.method(0, 10, 51, &[]);
    });
    assert!(matches!(bench.next(), Event::Connected));
    for (tag, id, body) in [(1, "a", &b"one"[..]), (2, "b", b"two")] {
        let Event::Delivered(delivery) = bench.next() else { panic!("no message {tag}") };
        assert_eq!((delivery.tag, delivery.id.as_deref()), (tag, Some(id)));
        assert_eq!(delivery.body, body);
    }
    bench.link.acknowledge(2);
    assert!(matches!(bench.next(), Event::Answered(2)));
    assert!(matches!(bench.next(), Event::Delivered(Delivery { tag: 3, .. })));
    assert!(matches!(bench.next(), Event::Lost));
    // Of a connection that is gone: not passed on to the next.
    bench.link.acknowledge(3);
    assert!(matches!(bench.next(), Event::Connected));
    assert_eq!(*bench.troubles.lock(), [true, false]);
    let Bench { link, broker, .. } = bench;
    drop(link);
    broker.join().unwrap();
}

#[test]
fn a_queue_that_is_not_there_fails_the_job() {
    let mut bench = bench(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.welcome();
        peer.method(1, 20, 40, &[0x01, 0x94, 2, b'n', b'o', 0, 60, 0, 20]);
    });
    let Event::Failed(error) = bench.next() else { panic!("it has not failed") };
    assert_eq!(error.sqlstate(), "42704");
    let message = error.to_string();
    assert!(message.contains("\"q\"") && !message.contains("secret"), "{message}");
    bench.broker.join().unwrap();
}

#[test]
fn what_is_no_broker_is_told_and_tried_again() {
    let bench = bench(|listener| {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(GREETING).unwrap();
        }
    });
    bench.broker.join().unwrap();
    assert!(bench.troubles.lock().iter().all(|is_trouble| *is_trouble));
}
