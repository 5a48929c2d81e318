//! The control socket of a running service: `status`, `flows` and the like ask through it.
//!
//! A Unix socket, so that the file system says who may ask. One JSON object a line each way: a
//! request `{"ask": NAME, …}` is answered by `{"ok": VALUE}` or `{"error": TEXT}`.

use std::future::Future;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use crate::failure::Failure;
use crate::service::Wanted;

/// The longest request, in bytes: a policy of some hundred thousand rules.
const MAX_REQUEST: u64 = 64 * 1024 * 1024;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a policy may take to come into force.
const APPLYING: Duration = Duration::from_secs(120);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Counters and state of everything that runs.
    Status,
    /// The flows that the agent knows.
    Flows,
    /// Bring another policy into force, or say what that would change.
    Apply(Wanted),
    /// Let no new flows go to a server, or let them again.
    Drain {
        /// The pool's name.
        pool: String,
        /// The server, by its name or as ADDRESS:PORT.
        server: String,
        /// Whether it is drained from now on.
        drained: bool,
    },
    /// End one manager, as if it had died.
    ManagerStop {
        /// Its name.
        name: String,
    },
}

/// The folder of the control sockets of this user.
fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        // It may be named and not be there, after `su` for example.
        Some(folder) if folder.is_dir() => folder.join("signalbox"),
        // The user's id keeps users apart where there is no folder of their own.
        _ => PathBuf::from(format!("/tmp/signalbox-{}", user_id())),
    }
}

/// The control socket of a policy, in the folder of this user's sockets, which is made if need be.
///
/// # Errors
/// One line: the folder cannot be made, or somebody else could put sockets of theirs there.
pub fn default_path(policy: &str) -> Result<PathBuf, Failure> {
    let folder = folder();
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Failure::Failed(format!(
                "cannot make folder `{}` for the control socket: {error}",
                folder.display()
            )));
        }
        _ => own(&folder)?,
    }
    Ok(folder.join(format!("{policy}.sock")))
}

/// Fails unless `folder` is a folder of this user that nobody else can write to: in /tmp anybody can
/// make one of any name.
fn own(folder: &Path) -> Result<(), Failure> {
    let refuse = |what: &str| {
        Failure::Failed(format!(
            "`{}` is not safe for control sockets: {what}; take it away, or use `--control PATH`",
            folder.display()
        ))
    };
    let about = std::fs::symlink_metadata(folder).map_err(|error| refuse(&error.to_string()))?;
    if !about.is_dir() {
        return Err(refuse("it is not a folder"));
    }
    if about.uid() != user_id() {
        return Err(refuse("it belongs to another user"));
    }
    if about.mode() & 0o022 != 0 {
        return Err(refuse("others may write to it"));
    }
    Ok(())
}

/// The user whose rights the program has: files that it makes are theirs.
fn user_id() -> u32 {
    // `Uid:` real, effective, saved, file system. (/proc/self itself belongs to root when the
    // program has capabilities.)
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// A listening socket, taken away when dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode of the socket, to know it by.
    identity: Option<(u64, u64)>,
    task: tokio::task::JoinHandle<()>,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let about = std::fs::symlink_metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}

impl Server {
    /// Listens at `path` and answers each request with `answer`.
    ///
    /// # Errors
    /// One line: another service listens there, or the file cannot be made.
    pub fn start<F, A>(path: &Path, answer: F) -> Result<Self, Failure>
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Value, String>> + Send + 'static,
    {
        let problem = |error: std::io::Error| {
            Failure::Failed(format!("cannot listen at `{}`: {error}", path.display()))
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(Failure::Failed(format!(
                "cannot listen at `{}`: there is no folder `{}`",
                path.display(),
                folder.display()
            )));
        }
        // Of two that start at the same time, the second is to find the first's socket, not to take
        // it for a dead one. Where the folder cannot be locked, that is left to chance.
        let lock = std::fs::File::open(folder).ok();
        for _ in 0..100 {
            if lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        match std::fs::symlink_metadata(path) {
            Ok(about) if !about.file_type().is_socket() => {
                return Err(Failure::Failed(format!(
                    "`{}` is there already and is no control socket; give another `--control PATH`",
                    path.display()
                )));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(Failure::Failed(format!(
                    "a service is running already at `{}`; stop it, or give this one another `--control PATH`",
                    path.display()
                )));
            }
            // A socket that nobody answers at was left behind by a service that died.
            Ok(_) => std::fs::remove_file(path).map_err(problem)?,
            Err(_) => {}
        }
        let listener = tokio::net::UnixListener::bind(path).map_err(problem)?;
        drop(lock);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(problem)?;
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    // A client that goes away in the middle concerns nobody else.
                    let _ = serve(stream, answer.as_ref()).await;
                });
            }
        });
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path),
            task,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Somebody may have taken the file away and started another service there.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn serve<F, A>(stream: tokio::net::UnixStream, answer: &F) -> std::io::Result<()>
where
    F: Fn(Request) -> A,
    A: Future<Output = Result<Value, String>>,
{
    let (reader, mut writer) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(reader.take(MAX_REQUEST)).lines();
    while let Some(line) = lines.next_line().await? {
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(request) => match answer(request).await {
                Ok(value) => json!({ "ok": value }),
                Err(error) => json!({ "error": error }),
            },
            Err(error) => json!({ "error": format!("the request was not understood: {error}") }),
        };
        writer.write_all(format!("{reply}\n").as_bytes()).await?;
    }
    Ok(())
}

/// Finds the socket to ask: the given one, else the only one there is.
///
/// # Errors
/// One line when none or several services run.
pub fn find(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let folder = folder();
    if folder.exists() {
        own(&folder)?;
    }
    match live_in(&folder).as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::Failed("no running service found; start one with `signalbox run POLICY`, or name its socket with `--control PATH`".to_owned())),
        several => Err(Failure::Failed(format!(
            "several services are running; choose one with `--control`: {}",
            several.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The given sockets; without any, those of this user at which something answers, if all of it runs one policy.
///
/// # Errors
/// One line: nothing runs, or several policies do.
pub fn find_all(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let mut found: Vec<(PathBuf, Value)> = Vec::new();
    for path in live()? {
        // One that does not answer is none to wait for.
        if let Ok(status) = ask(&path, &Request::Status) {
            found.push((path, status));
        }
    }
    let policy = |status: &Value| status.get("policy").cloned();
    match found.as_slice() {
        [] => find(None).map(|path| vec![path]),
        [(_, first), others @ ..] if others.iter().all(|(_, s)| policy(s) == policy(first)) => {
            Ok(found.into_iter().map(|(path, _)| path).collect())
        }
        several => Err(Failure::Failed(format!(
            "several policies are running; choose with `--control`, once for each process: {}",
            (several.iter())
                .map(|(path, _)| format!("`{}`", path.display()))
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// The sockets of this user at which somebody answers, in order.
///
/// # Errors
/// Somebody else could have put sockets of theirs there.
pub fn live() -> Result<Vec<PathBuf>, Failure> {
    let folder = folder();
    if folder.exists() {
        own(&folder)?;
    }
    Ok(live_in(&folder))
}

fn live_in(folder: &Path) -> Vec<PathBuf> {
    let mut live: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension().is_some_and(|ending| ending == "sock")
                && UnixStream::connect(path).is_ok()
        })
        .collect();
    live.sort();
    live
}

/// Asks the service at `path` and waits for its answer.
///
/// # Errors
/// One line: nobody listens, no answer came, or the service's own error.
pub fn ask(path: &Path, request: &Request) -> Result<Value, Failure> {
    let problem = |error: std::io::Error| {
        Failure::Failed(format!(
            "no answer from the service at `{}`: {error}",
            path.display()
        ))
    };
    let mut stream = UnixStream::connect(path).map_err(problem)?;
    let patience = match request {
        Request::Apply(_) => APPLYING,
        _ => PATIENCE,
    };
    stream.set_read_timeout(Some(patience)).map_err(problem)?;
    let text = serde_json::to_string(request).map_err(Failure::failed)?;
    stream
        .write_all(format!("{text}\n").as_bytes())
        .map_err(problem)?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(problem)?;
    let reply: Value = serde_json::from_str(&line).map_err(|_| {
        Failure::Failed(format!(
            "the service at `{}` ended before it answered",
            path.display()
        ))
    })?;
    match (reply.get("ok"), reply.get("error")) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(error)) => Err(Failure::Failed(
            error.as_str().unwrap_or("unknown error").to_owned(),
        )),
        (None, None) => Err(Failure::Failed(format!(
            "the answer from `{}` was not understood",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_request_is_answered_and_a_second_service_is_refused() {
        let path =
            std::env::temp_dir().join(format!("signalbox-control-{}.sock", std::process::id()));
        let server = Server::start(&path, |request| async move {
            match request {
                Request::Status => Ok(json!(7)),
                other => Err(format!("no {other:?}")),
            }
        })
        .unwrap();
        let asked = path.clone();
        let (good, bad) = tokio::task::spawn_blocking(move || {
            (ask(&asked, &Request::Status), ask(&asked, &Request::Flows))
        })
        .await
        .unwrap();
        assert_eq!(good.unwrap(), json!(7));
        assert!(matches!(bad, Err(Failure::Failed(text)) if text == "no Flows"));
        let second = Server::start(&path, |_| async { Ok(Value::Null) });
        assert!(matches!(second, Err(Failure::Failed(text)) if text.contains("already")));
        drop(server);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_of_the_user_is_never_taken_for_a_socket() {
        let folder = std::env::temp_dir().join(format!("signalbox-own-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("notes");
        std::fs::write(&file, "dear").unwrap();
        let refused = Server::start(&file, |_| async { Ok(Value::Null) });
        assert!(matches!(refused, Err(Failure::Failed(text)) if text.contains("notes")));
        assert_eq!(std::fs::read(&file).unwrap(), b"dear");
        let nowhere = folder.join("no/such/folder/control.sock");
        assert!(Server::start(&nowhere, |_| async { Ok(Value::Null) }).is_err());
        assert!(!folder.join("no").exists());
        // A socket of a service that has died is in nobody's way, and one that was put in the place
        // of ours is not ours to take away.
        let path = folder.join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = Server::start(&path, |_| async { Ok(Value::Null) }).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Server::start(&path, |_| async { Ok(Value::Null) }).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let folder = std::env::temp_dir().join(format!("signalbox-open-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(own(&folder).is_ok());
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(own(&folder), Err(Failure::Failed(text)) if text.contains("others")));
        let link = folder.with_extension("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(own(&link).is_err());
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
