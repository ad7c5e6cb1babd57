//! `oomph fleet`: machines that are well, down, slow, without oomph or with an older one, and servers of every kind.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::reliability::{has, oomph, seat::Seat, tell, until};

/// An ssh of the test's own: it writes down how it was called, and each name behaves in its own way.
const SSH: &str = r#"#!/bin/sh
echo "$*" >> "$OOMPH_TEST_CALLS"
while [ "$1" != -- ]; do shift; done
host=$2; shift 2
case $host in
up*) echo "Welcome to $host!"; PATH="$OOMPH_TEST_BIN:$PATH" exec sh -c "$*";;
refused) echo "ssh: connect to host refused port 22: Connection refused" >&2; exit 255;;
locked) echo "me@locked: Permission denied (publickey,password)." >&2; exit 255;;
slow) exec sleep 60;;
none) HOME=/nonexistent PATH=/usr/bin:/bin exec sh -c "$*";;
old) PATH="$OOMPH_TEST_OLD:$PATH" exec sh -c "$*";;
newer) echo '{"schema":"oomph.host/7","oomph":"9.1"}'; exec sleep 60;;
endless) exec tr '\0' x < /dev/zero;;
hostile) printf '\033]0;PWNED\007{"schema":"oomph.host/1"\n'; printf 'ssh: \033[2J\342\200\256evil\n' >&2; exit 255;;
once) echo '{"schema":"oomph.host/1","host":"\u001b[2J","gpus":[{"index":0,"name":"\u202eH200"}]}'; exec sleep 60;;
esac
"#;

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder with that ssh, and the variables that lead to it.
struct Net {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Net {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old");
        let bin = folder.path().join("bin");
        fs::create_dir(&old).unwrap();
        fs::create_dir(&bin).unwrap();
        program(&bin.join("ssh"), SSH);
        program(
            &old.join("oomph"),
            "#!/bin/sh\n[ \"$1\" = --version ] && echo oomph 0.0.9 && exit 0\necho \"error: unexpected argument '--here'\" >&2\nexit 2\n",
        );
        let own = Path::new(env!("CARGO_BIN_EXE_oomph")).parent().unwrap().display().to_string();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let calls = folder.path().join("calls").display().to_string();
        let variables = vec![
            ("PATH", path),
            ("OOMPH_TEST_CALLS", calls),
            ("OOMPH_TEST_BIN", own),
            ("OOMPH_TEST_OLD", old.display().to_string()),
        ];
        Self { folder, variables }
    }

    fn oomph(&self) -> Command {
        let mut command = oomph(self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default()
    }
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The machine of a name.
fn host<'a>(fleet: &'a Value, name: &str) -> &'a Value {
    let found = fleet["hosts"].as_array().unwrap().iter().find(|host| host["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {fleet}"))
}

#[test]
fn every_machine_says_how_it_stands_or_why_not() {
    let net = Net::new();
    let names = ["up1", "refused", "locked", "slow", "none", "old", "newer", "endless", "hostile", "once", "up2"];
    let start = Instant::now();
    let output = net
        .oomph()
        .args(["fleet", "--once", "--json", "--timeout", "6", "--interval", "1"])
        .args(names)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert!(!output.stdout.contains(&0x1b) && !String::from_utf8_lossy(&output.stdout).contains('\u{202e}'));
    let fleet = json(&output);
    assert_eq!(fleet["schema"], "oomph.fleet/1");
    for name in ["up1", "up2"] {
        let up = host(&fleet, name);
        assert_eq!(up["state"], "up", "{up}");
        assert!(up["report"]["memory_total_bytes"].as_u64().unwrap() > 0, "{up}");
        assert_eq!(up["report"]["oomph"], env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(host(&fleet, "once")["report"]["gpus"][0]["memory_used_bytes"], Value::Null, "unknown is not zero");
    for (name, why, advice) in [
        ("refused", "Connection refused", ""),
        ("locked", "Permission denied", "never asks for a password"),
        ("slow", "no answer", ""),
        ("none", "no oomph there", "--oomph"),
        ("old", "0.0.9", "update it there"),
        ("newer", "9.1", "update the oomph on this machine"),
        ("endless", "too long", ""),
        ("hostile", "evil", ""),
    ] {
        let down = host(&fleet, name);
        assert_eq!(down["state"], "down", "{down}");
        assert!(down["why"].as_str().unwrap().contains(why), "{down}");
        assert!(down["advice"].as_str().unwrap_or("").contains(advice), "{down}");
    }
    // Nobody is asked anything.
    let calls = net.calls();
    assert_eq!(
        calls.lines().filter(|line| line.contains("BatchMode=yes")).count(),
        calls.lines().filter(|l| l.contains("-- ")).count()
    );
    // As text, and when nobody answers.
    let output = net.oomph().args(["fleet", "--once", "--timeout", "6", "refused", "up1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("Connection refused") && text.contains("host"), "{text}");
    let output = net.oomph().args(["fleet", "--once", "--timeout", "6", "refused"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// A host's name is never an option of ssh, and lists of machines are read as launchers write them.
#[test]
fn machines_come_from_lists_and_the_configuration() {
    let net = Net::new();
    let list = net.folder.path().join("hostfile");
    fs::write(&list, "# ours\nup1 slots=8\n\nrefused slots=8 # broken\nup1\n").unwrap();
    let output = net
        .oomph()
        .args(["fleet", "--once", "--json", "--timeout", "6", "--hosts", list.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(json(&output)["hosts"].as_array().unwrap().len(), 2, "{output:?}");
    let config = net.folder.path().join("config.toml");
    fs::write(&config, "[fleet]\nhosts = [\"up1\"]\n").unwrap();
    let output = net
        .oomph()
        .env("OOMPH_CONFIG", &config)
        .args(["fleet", "--once", "--json", "--timeout", "6"])
        .output()
        .unwrap();
    assert_eq!(host(&json(&output), "up1")["state"], "up");
    let before = net.calls();
    for words in [&["--", "-oProxyCommand=touch x"][..], &[], &["a b"], &["--prometheus", "file:///etc/passwd"]] {
        let output = net.oomph().arg("fleet").args(["--once"]).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{output:?}");
    }
    assert_eq!(net.calls(), before, "nobody was called");
}

/// The screen: a job on another machine, its failure, and a machine that comes back.
#[test]
fn the_screen_shows_jobs_and_what_became_of_them() {
    let net = Net::new();
    let log = net.folder.path().join("train.log");
    let script = net.folder.path().join("train.py");
    fs::write(&script, "while read line; do echo \"$line\"; done\n").unwrap();
    let file = fs::File::create(&log).unwrap();
    // A shell that is called like an interpreter: what it runs is found as a training job.
    let python = net.folder.path().join("python3");
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &python).unwrap();
    let mut job = Command::new(&python).arg(&script).stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    let mut input = job.stdin.take().unwrap();
    writeln!(input, "{{'loss': 1.25, 'epoch': 0.1}}").unwrap();
    let variables: Vec<(&str, &str)> = net.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut seat =
        Seat::oomph(net.folder.path(), &["fleet", "--interval", "1", "--timeout", "6", "up1", "refused"], &variables);
    seat.shows("1 of 2 machines answer");
    seat.shows("Connection refused");
    seat.shows("1.25");
    writeln!(input, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.00 GiB is free.").unwrap();
    seat.shows("failed");
    drop(input);
    job.wait().unwrap();
    seat.shows("died of memory");
    seat.press("q");
    let left = Instant::now();
    assert!(seat.end().0.success());
    assert!(left.elapsed() < Duration::from_secs(3), "{:?}", left.elapsed());
}

/// Through a real server, where this machine has one.
#[test]
fn a_real_ssh_server_is_asked() {
    let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(Path::new).into_iter().find(|path| path.exists());
    let named = std::env::var_os("OOMPH_TEST_SSHD").map(std::path::PathBuf::from);
    let Some(sshd) = named.as_deref().or(sshd).filter(|_| has("ssh", &["-V"])) else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for key in ["host", "user"] {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place(key)).status();
        assert!(made.unwrap().success());
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::copy(place("user.pub"), place("authorized")).unwrap();
    let own = Path::new(env!("CARGO_BIN_EXE_oomph"));
    fs::write(
        place("sshd_config"),
        format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nSetEnv OOMPH_STATE={}\n",
            place("host").display(),
            place("authorized").display(),
            place("state").display()
        ),
    )
    .unwrap();
    fs::write(
        place("ssh_config"),
        format!(
            "Host stranger\n UserKnownHostsFile /dev/null\nHost near locked stranger\n HostName 127.0.0.1\n Port {port}\n UserKnownHostsFile {known}\n IdentitiesOnly yes\nHost near stranger\n IdentityFile {user}\nHost locked\n IdentityAgent none\n IdentityFile /nonexistent\n",
            known = place("known").display(),
            user = place("user").display()
        ),
    )
    .unwrap();
    let key = fs::read_to_string(place("host.pub")).unwrap();
    fs::write(place("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
    let mut server = Command::new(sshd)
        .arg("-D")
        .arg("-e")
        .arg("-f")
        .arg(place("sshd_config"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut begun = true;
    until("the server listens", || {
        begun = server.try_wait().unwrap().is_none();
        !begun || TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    if !begun {
        // It wants a user of its own, a folder in /run, or PAM: a machine's matter.
        return tell("skipped: the ssh server of this machine does not start");
    }
    // ssh reads the configuration of the user's home, not of $HOME: a word of its own leads it here.
    let bin = place("bin");
    fs::create_dir(&bin).unwrap();
    let ssh = String::from_utf8(Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap().stdout).unwrap();
    program(&bin.join("ssh"), &format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", ssh.trim(), place("ssh_config").display()));
    let output = oomph(folder.path())
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .args([
            "fleet",
            "--once",
            "--json",
            "--timeout",
            "8",
            "--oomph",
            own.to_str().unwrap(),
            "near",
            "locked",
            "stranger",
        ])
        .output()
        .unwrap();
    let _ = server.kill();
    let _ = server.wait();
    let fleet = json(&output);
    assert_eq!(host(&fleet, "near")["state"], "up", "{fleet}");
    assert!(host(&fleet, "near")["report"]["memory_total_bytes"].as_u64().unwrap() > 0);
    assert!(host(&fleet, "locked")["why"].as_str().unwrap_or_default().contains("Permission denied"), "{fleet}");
    assert!(host(&fleet, "stranger")["why"].as_str().unwrap_or_default().contains("verification failed"), "{fleet}");
}

type Answer = fn(&mut TcpStream, u16);

/// A server of the test's own, and the number of calls of another one that it must never lead to.
fn serve(answer: Answer) -> (u16, Arc<AtomicUsize>) {
    let (server, elsewhere) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, other) = (server.local_addr().unwrap().port(), elsewhere.local_addr().unwrap().port());
    let strayed = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            thread::spawn(move || {
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(n @ 1..) => request.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
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
    (port, strayed)
}

fn send(stream: &mut TcpStream, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

const WELL: &[u8] = b"DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\",modelName=\"H200\",Hostname=\"n7\"} 1024\nDCGM_FI_DEV_FB_FREE{gpu=\"0\",UUID=\"GPU-a\",Hostname=\"n7\"} 3072\n";

/// G9: whatever answers in the place of a metrics server costs itself, in time and in memory.
#[test]
fn a_hostile_metrics_server_costs_itself() {
    if !has("curl", &["--version"]) {
        return;
    }
    // What is told of it, and how it answers.
    let cases: &[(&str, Answer)] = &[
        ("up", |s, _| send(s, WELL)),
        ("no whole answer", |_, _| thread::sleep(Duration::from_mins(1))),
        ("no whole answer", |s, _| {
            let _ = s.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while s.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        }),
        ("more than 16 MiB|no whole answer", |s, _| {
            let _ = s.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while s.write_all(&[b'a'; 8192]).is_ok() {}
        }),
        ("compressed", |s, _| send(s, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")),
        ("sends elsewhere", |s, other| {
            let _ = s.write_all(
                format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{other}/\r\ncontent-length: 0\r\n\r\n")
                    .as_bytes(),
            );
        }),
        ("HTTP status 503", |s, _| drop(s.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"))),
        ("not Prometheus", |s, _| send(s, b"<html>\n<body>\n</html>\n")),
        ("not Prometheus", |s, _| send(s, b"\x00\xff\x1b]0;PWNED\x07\n\n")),
        ("more than 200000", |s, _| send(s, "go_threads 1\n".repeat(200_001).as_bytes())),
        ("no metric of a GPU", |s, _| send(s, b"go_threads 1\n")),
        ("no metric of a GPU", |s, _| send(s, b"")),
        ("closed|partial|outstanding|transfer", |s, _| {
            drop(s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nhalf"));
        }),
        ("empty reply|Empty reply|reset", |_, _| {}),
        ("up", |s, _| {
            let label = "x".repeat(5000);
            let text = format!("DCGM_FI_DEV_FB_USED{{gpu=\"0\",UUID=\"a\",Hostname=\"n7\",pod=\"{label}\"}} NaN\n");
            send(s, [text.as_bytes(), WELL, WELL].concat().as_slice());
        }),
    ];
    for (nth, (told, answer)) in cases.iter().enumerate() {
        let (port, strayed) = serve(*answer);
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://me:geheim@127.0.0.1:{port}/metrics");
        let start = Instant::now();
        let output = oomph(folder.path()).args(["fleet", "--once", "--json", "--prometheus", &url]).output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(8), "{nth} {told}: {:?}", start.elapsed());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("geheim"), "{nth}: the password is not shown");
        assert!(!output.stdout.contains(&0x1b));
        let fleet = json(&output);
        let first = &fleet["hosts"][0];
        if *told == "up" {
            assert_eq!((&first["state"], &first["name"]), (&"up".into(), &"n7".into()), "{nth}: {fleet}");
            assert_eq!(first["report"]["gpus"][0]["memory_used_bytes"], 1u64 << 30);
        } else {
            let why = first["why"].as_str().unwrap_or_default();
            assert_eq!(first["state"], "down", "{nth} {told}: {fleet}");
            assert!(told.split('|').any(|told| why.contains(told)), "{nth} {told}: {why}");
            assert_eq!(output.status.code(), Some(2));
        }
        assert_eq!(strayed.load(Ordering::SeqCst), 0, "{nth}: led elsewhere");
    }
}

/// A Prometheus server knows many machines.
#[test]
fn a_prometheus_server_tells_of_many_machines() {
    if !has("curl", &["--version"]) {
        return;
    }
    let (port, _) = serve(|stream, _| {
        let entry = |host: &str, name: &str, value: u32| {
            format!(
                "{{\"metric\":{{\"__name__\":\"{name}\",\"UUID\":\"GPU-{host}\",\"gpu\":\"0\",\"instance\":\"{host}:9400\"}},\"value\":[1,\"{value}\"]}}"
            )
        };
        let all: Vec<String> = (1..4)
            .flat_map(|n| {
                let host = format!("node{n}");
                [entry(&host, "DCGM_FI_DEV_FB_USED", n * 1024), entry(&host, "DCGM_FI_DEV_FB_FREE", 1024)]
            })
            .collect();
        let text =
            format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{}]}}}}", all.join(","));
        send(stream, text.as_bytes());
    });
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let output = oomph(folder.path()).args(["fleet", "--once", "--json", "--prometheus", &url]).output().unwrap();
    let fleet = json(&output);
    for n in 1..4u64 {
        let gpu = &host(&fleet, &format!("node{n}"))["report"]["gpus"][0];
        assert_eq!(gpu["memory_used_bytes"], n << 30, "{fleet}");
        assert_eq!(gpu["memory_total_bytes"], (n + 1) << 30, "{fleet}");
    }
}
