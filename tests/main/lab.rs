//! Network namespaces and the virtual cables between them; all gone when the lab is dropped.

use std::cell::RefCell;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::run;

/// Namespaces of one test.
pub struct Lab {
    id: String,
    spaces: RefCell<Vec<String>>,
}

/// A host of the lab.
#[derive(Clone)]
pub struct Space(String);

impl Lab {
    /// An empty lab.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("sb{}-{number}", std::process::id()),
            spaces: RefCell::default(),
        }
    }

    /// Adds a host without interfaces but lo, and without IPv6.
    pub fn space(&self, name: &str) -> Space {
        let full = format!("{}-{name}", self.id);
        ip(&["netns", "add", &full]);
        self.spaces.borrow_mut().push(full.clone());
        let space = Space(full);
        ip(&["-n", &space.0, "link", "set", "lo", "up"]);
        for which in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{which}.disable_ipv6=1");
            // A kernel without IPv6 has no such setting, and needs none.
            space.run(&["sysctl", "-qw", &setting]);
        }
        space
    }

    /// A cable from `a`'s interface `at_a` to `b`'s interface `at_b`; both ends are up.
    pub fn cable(&self, a: &Space, at_a: &str, b: &Space, at_b: &str) {
        ip(&[
            "-n", &a.0, "link", "add", at_a, "type", "veth", "peer", "name", at_b, "netns", &b.0,
        ]);
        ip(&["-n", &a.0, "link", "set", at_a, "up"]);
        ip(&["-n", &b.0, "link", "set", at_b, "up"]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut left = Vec::new();
        for space in self.spaces.borrow().iter().rev() {
            // A deleted namespace lives on with the programs in it, so these go first. They are ours:
            // nobody else knows the namespace.
            let pids = Command::new("ip").args(["netns", "pids", space]).output();
            let pids = pids.map_or_else(|_| String::new(), |found| text(&found.stdout));
            for pid in pids.split_whitespace() {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                left.push(format!("{} in {space}", name.unwrap_or_default().trim()));
                let _ = Command::new("kill").args(["-KILL", pid]).status();
            }
            let _ = Command::new("ip").args(["netns", "del", space]).output();
        }
        let is_clean = left.is_empty() || std::thread::panicking();
        assert!(is_clean, "programs outlived their test: {left:?}");
    }
}

impl Space {
    /// Gives an interface an address with its prefix length, and a default router if there is one.
    pub fn address(&self, interface: &str, address: &str, router: Option<&str>) {
        ip(&["-n", &self.0, "address", "add", address, "dev", interface]);
        if let Some(router) = router {
            ip(&["-n", &self.0, "route", "add", "default", "via", router]);
        }
    }

    /// Switches the offloads of an interface off, for a switch that cannot finish checksums.
    pub fn offloads_off(&self, interface: &str) {
        let output = self.run(&[
            "ethtool", "-K", interface, "tx", "off", "sg", "off", "tso", "off", "gso", "off",
            "gro", "off",
        ]);
        assert!(output.status.success(), "{output:?}");
    }

    /// What the offloads of an interface are set to, as ethtool lists them.
    pub fn offloads(&self, interface: &str) -> String {
        text(&self.run(&["ethtool", "-k", interface]).stdout)
    }

    /// A command that runs in this host's network.
    pub fn command(&self, program: &str) -> Command {
        // `ip netns exec` becomes the program, so that the process id is the program's.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// The ids of the processes in this host's network.
    pub fn processes(&self) -> Vec<String> {
        let output = Command::new("ip").args(["netns", "pids", &self.0]).output();
        let ids = String::from_utf8(output.unwrap().stdout).unwrap();
        ids.split_whitespace().map(str::to_owned).collect()
    }

    /// Runs a command in this host's network to its end, at most two minutes.
    pub fn run(&self, words: &[&str]) -> Output {
        let (program, arguments) = words.split_first().unwrap();
        run(
            self.command(program).args(arguments),
            Duration::from_secs(120),
        )
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {problem}");
}
