//! An agent and a manager as on two machines: the affinity protocol over gRPC, on loopback, with the
//! embedded switch behind the agent.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use signalbox::image;
use signalbox::service::RunningTarget;
use signalbox_agent::{grpc, shell as agent_shell};
use signalbox_balance::Balance;
use signalbox_lower::plan::Plan;
use signalbox_manager::{Manager, Status, shell as manager_shell};
use signalbox_policy::model::{Policy, Send};
use signalbox_policy::testing;
use signalbox_switch::ports::MemoryPort;
use tokio::task::JoinHandle;

const POLICY: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack    { address 10.0.1.1/24 }
}

pool web {
  10.0.1.10:8080
  10.0.1.11:8080
}

service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick  from @web by round-robin
}

cascade web-lb

managers {
  lb-1 serves web-lb
}

test \"the packets that are sent\" {
  send tcp syn 203.0.113.9:40000 -> 203.0.113.80:80 on clients
  expect server in @web
  send tcp ack 203.0.113.9:40000 -> 203.0.113.80:80 on clients
  expect server in @web
  send tcp syn 203.0.113.9:40001 -> 203.0.113.80:80 on clients
  expect server in @web
}
";

/// A switch with its agent, which serves the affinity protocol.
struct Site {
    policy: Policy,
    plan: Arc<Plan>,
    agent: agent_shell::Handle,
    target: RunningTarget,
    url: String,
    left: Receiver<Vec<u8>>,
}

async fn site() -> Site {
    let policy = signalbox_policy::check(POLICY, "grpc.policy")
        .policy
        .unwrap();
    let policy = testing::prepared(&policy);
    let compiled = image::compile(policy.clone()).unwrap();
    let plan = Arc::new(compiled.lowered.plan.clone());
    let target = RunningTarget::of_plan(&plan).await.unwrap();
    let options = agent_shell::Options {
        name: "agent-7".to_owned(),
        plan: Arc::clone(&plan),
        p4info: compiled.image.p4info.clone(),
        pipeline: compiled.pipeline(),
        target: target.habits.clone(),
        device_id: target.device_id,
        election_id: 1,
    };
    let (agent, _task) = agent_shell::start(options, Arc::clone(&target.transport)).unwrap();
    agent.ready().await.unwrap();
    let (address, _server) = grpc::serve(([127, 0, 0, 1], 0).into(), agent.sessions())
        .await
        .unwrap();
    let (tell, left) = channel();
    let servers = MemoryPort::new(move |frame: &[u8]| {
        let _ = tell.send(frame.to_vec());
    });
    let switch = target.switch().unwrap();
    switch
        .add_port(1, Box::new(MemoryPort::new(|_: &[u8]| {})))
        .unwrap();
    switch.add_port(2, Box::new(servers)).unwrap();
    Site {
        policy,
        plan,
        agent,
        target,
        url: format!("http://{address}"),
        left,
    }
}

impl Site {
    /// A manager that has its criteria in.
    async fn manager(&self, epoch: u64) -> (manager_shell::Handle, JoinHandle<()>) {
        let balance = Balance::new(&self.plan.services[0]).unwrap();
        let services = vec![("web-lb".to_owned(), 0, epoch, Box::new(balance) as _)];
        let machine = Manager::new("lb-1", &self.plan, services);
        let (handle, task) = manager_shell::start(machine);
        handle.attach(Box::new(grpc::connect(&self.url).await.unwrap()));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.agent.status(false).await.unwrap();
            if status.managers == 1 && status.counters.criteria.now > 0 {
                return (handle, task);
            }
            assert!(Instant::now() < deadline, "no criteria: {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends one of the test's packets; the server that it leaves for.
    fn send(&self, number: usize) -> [u8; 4] {
        let step = &self.policy.tests[0].steps[number];
        let Send::Packet(send) = &step.send else {
            panic!("{step:?}");
        };
        let frame = testing::packet(&self.policy, send);
        let switch = self.target.switch().unwrap();
        switch.inject(send.port, frame).unwrap();
        let frame = self.left.recv_timeout(Duration::from_secs(10)).unwrap();
        frame[30..34].try_into().unwrap()
    }
}

async fn until(handle: &manager_shell::Handle, what: impl Fn(&Status) -> bool) -> Status {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = handle.status().await.unwrap();
        if what(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_and_a_manager_decide_a_connection_over_grpc() {
    let site = site().await;
    let (first, task) = site.manager(1).await;
    let server = site.send(0);
    assert!(server == [10, 0, 1, 10] || server == [10, 0, 1, 11]);
    assert_eq!(site.send(1), server, "the entry is in");
    let status = first.status().await.unwrap();
    assert_eq!(status.agents, ["agent-7"]);
    let counts = status.services[0].counts;
    assert_eq!((counts.interest_packets, counts.decided), (1, 1));
    let flows = site.agent.flows().await.unwrap();
    assert_eq!(flows.len(), 1);

    // The manager dies; the next one hears from the agent what was decided.
    task.abort();
    drop(first);
    let (second, _task) = site.manager(2).await;
    let status = until(&second, |s| s.services[0].flows == 1).await;
    assert_eq!(
        status.services[0]
            .targets
            .iter()
            .map(|t| t.flows)
            .sum::<u64>(),
        1
    );
    assert_eq!(site.send(1), server, "the flow lives on");
    site.send(2);
    let counts = second.status().await.unwrap().services[0].counts;
    assert_eq!((counts.decided, counts.denied), (1, 0));
}
