//! Requests to the pages about a worker.
#![no_main]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::OnceLock,
    time::Duration,
};

use haulage::metrics::{Labels, Listener};

static LISTENER: OnceLock<Listener> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|request: &[u8]| {
    let bind = || Listener::bind("127.0.0.1:0", Labels::of("memory://")).expect("a free port");
    let listener = LISTENER.get_or_init(bind);
    let mut stream = TcpStream::connect(listener.address()).expect("it answers");
    stream.set_read_timeout(Some(Duration::from_secs(8))).expect("a limit");
    // It may answer and close before it has read all.
    let _ = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match (&mut stream).take(1 << 20).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    assert!(answer.len() < 64 << 10);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
});
