//! Whoever is to be called (S3, P8): only where the configuration names somebody, and whatever answers there hurts nobody.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    count, has,
    seat::{Log, Seat},
    tell, until,
};

type Answer = fn(&mut TcpStream, u16);

/// A server of the test's own: what it was sent, and how it answers. The second one is where it must never lead.
fn serve(answer: Answer) -> (u16, Arc<Mutex<Vec<u8>>>, Arc<AtomicUsize>) {
    let (server, elsewhere) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, other) = (server.local_addr().unwrap().port(), elsewhere.local_addr().unwrap().port());
    let (got, strayed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&got);
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    match stream.read(&mut buffer) {
                        Ok(n @ 1..) => request.extend_from_slice(&buffer[..n]),
                        _ => break,
                    }
                }
                seen.lock().unwrap().extend_from_slice(&request);
                answer(&mut stream, other);
            });
        }
    });
    let stray = Arc::clone(&strayed);
    thread::spawn(move || {
        for _stream in elsewhere.incoming().flatten() {
            stray.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, got, strayed)
}

#[test]
fn a_hostile_webhook_costs_nothing() {
    if !has("curl", &["--version"]) {
        return;
    }
    let answers: &[(&str, Answer)] = &[
        ("redirect", |s, other| {
            let _ = s.write_all(
                format!("HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:{other}/\r\ncontent-length: 0\r\n\r\n")
                    .as_bytes(),
            );
        }),
        ("without end", |s, _| {
            let _ = s.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while s.write_all(&[b'\x1b'; 8192]).is_ok() {}
        }),
        ("silent", |_, _| thread::sleep(Duration::from_mins(1))),
        ("well", |s, _| drop(s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))),
        ("garbage", |s, _| drop(s.write_all(b"\x00\xff\x1b]0;PWNED\x07\n\n"))),
        ("half", |s, _| drop(s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nhalf"))),
        ("gzip bomb", |s, _| {
            let _ = s.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
            );
            while s.write_all(&[0; 4096]).is_ok() {}
        }),
    ];
    let mut slowest = Duration::ZERO;
    for (name, answer) in answers.iter().take(count(3, answers.len())) {
        let (port, got, strayed) = serve(*answer);
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        fs::write(
            &config,
            format!("[alerts]\nfrom = \"info\"\nwebhook = \"http://127.0.0.1:{port}/hook[1-9]{{a,b}}\"\n"),
        )
        .unwrap();
        let mut log = Log::new(folder.path());
        log.say("{'loss': 1.25, 'epoch': 0.1}\n");
        let mut seat = Seat::oomph(
            folder.path(),
            &["--no-gpu", "--no-record", log.name()],
            &[("OOMPH_CONFIG", config.to_str().unwrap())],
        );
        seat.shows("1.25");
        // What was there at the start is no news: two ticks of the clock later everything is.
        for _ in 0..2 {
            let clock = || seat.contents().lines().next().map(str::to_string);
            let before = clock();
            until("the clock goes on", || clock() != before);
        }
        log.say("{'loss': nan, 'epoch': 0.2}\nRuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\n");
        until(&format!("{name}: it is called"), || !got.lock().unwrap().is_empty());
        seat.press("5");
        log.say("the log goes on\n");
        seat.shows("the log goes on");
        let left = Instant::now();
        seat.press("q");
        assert!(seat.end().0.success(), "{name}");
        slowest = slowest.max(left.elapsed());
        let request = String::from_utf8_lossy(&got.lock().unwrap()).into_owned();
        // One call as it was configured, not one for each of what curl could read into the brackets.
        assert!(request.starts_with("POST /hook[1-9]{a,b} HTTP/1."), "{name}: {request}");
        assert!(request.contains("oomph.alert/1"), "{name}: {request}");
        assert_eq!(strayed.load(Ordering::SeqCst), 0, "{name}: led elsewhere");
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    tell(&format!(
        "S3: {} hostile webhooks: called once each, led nowhere else, gone within {slowest:.0?}",
        answers.len()
    ));
}
