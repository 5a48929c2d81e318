//! An etcd of a test's own, on loopback, with its data in the test's folder; and a wire to it that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::needs;
use crate::process::{Folder, Process, wait_until};

/// How long it may take to start.
const SOON: Duration = Duration::from_secs(30);

/// A running etcd, killed when dropped.
pub struct Etcd {
    process: Option<Process>,
    data: PathBuf,
    client: u16,
    peer: u16,
    quota: Option<u64>,
    starts: u32,
}

impl Etcd {
    /// Starts one whose data are in `folder`; with a quota of so many bytes, if one is given.
    pub fn start(folder: &Folder, quota: Option<u64>) -> Self {
        let mut etcd = Self {
            process: None,
            data: folder.file("etcd"),
            client: free_port(),
            peer: free_port(),
            quota,
            starts: 0,
        };
        etcd.again(folder);
        etcd
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    /// Starts it again, with the data that it had.
    pub fn again(&mut self, folder: &Folder) {
        let program = needs::find("etcd").unwrap();
        let mut command = Command::new(program);
        let (client, peer) = (
            format!("http://127.0.0.1:{}", self.client),
            format!("http://127.0.0.1:{}", self.peer),
        );
        command
            .args(["--name", "test", "--log-level", "error"])
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            // The only one there is: it need not wait long before it leads.
            .args(["--heartbeat-interval", "50", "--election-timeout", "250"]);
        if let Some(quota) = self.quota {
            command.args(["--quota-backend-bytes", &quota.to_string()]);
        }
        self.starts += 1;
        let name = format!("etcd-{}", self.starts);
        self.process = Some(Process::start(&name, command, folder));
        wait_until("etcd", SOON, || self.is_healthy());
    }

    /// Kills it; its data stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Takes its data away, while it does not run.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none());
        std::fs::remove_dir_all(&self.data).unwrap();
    }

    /// Its answer to an HTTP request for `path`, with `body` sent by POST.
    pub fn http(&self, path: &str, body: Option<&str>) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let (method, body) = body.map_or(("GET", ""), |body| ("POST", body));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn is_healthy(&self) -> bool {
        (self.http("/health", None)).is_some_and(|answer| answer.contains("\"true\""))
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A port that leads to another one, until it is cut: then it takes connections and lets nothing through.
pub struct Wire {
    port: u16,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// A wire to `address`. Its threads end with the test's process.
    pub fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::default(),
            open: Arc::default(),
        };
        let (address, cut) = (address.to_owned(), Arc::clone(&wire.cut));
        let open = Arc::clone(&wire.open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&address) else {
                    continue;
                };
                open.lock().unwrap().push(client.try_clone().unwrap());
                pump(
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    &cut,
                );
                pump(server, client, &cut);
            }
        });
        wire
    }

    /// Where it begins.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets nothing through any more, and says so to nobody.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Lets everything through again; connections that have waited are closed.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, cut: &Arc<AtomicBool>) {
    let cut = Arc::clone(cut);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = from.read(&mut bytes) {
            if count == 0 {
                break;
            }
            while cut.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
