//! A running service is divided among its managers, and the division taken back, under traffic.

use super::*;

/// The manager `two` gets the flows of dns from these ports, and all of egress.
fn divided() -> String {
    let two = "udp.src in 4010..4029";
    POLICY.replace(
        "managers { one serves meter, dns, egress }",
        &format!(
            "managers {{ one serves meter; one serves dns where not {two}; two serves dns where {two}; two serves egress }}"
        ),
    )
}

struct Running {
    runtime: tokio::runtime::Runtime,
    service: Service,
    site: Site,
}

impl Running {
    fn start() -> Self {
        let checked = signalbox_policy::check(POLICY, "site.policy");
        let compiled = image::compile(checked.policy.unwrap()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = runtime.block_on(Service::start_embedded(&compiled));
        let service = service.unwrap();
        let site = Site::at(service.view().switch().cloned().unwrap());
        Self {
            runtime,
            service,
            site,
        }
    }

    /// Applies a policy while packets of established flows keep coming, and waits until managers serve it.
    fn apply(&mut self, text: String, flows: u8) {
        let wanted = Wanted {
            file: "site.policy".into(),
            text,
            dry_run: false,
        };
        let view = self.service.view();
        let applying =
            (self.runtime).spawn(async move { view.answer(Request::Apply(wanted)).await });
        let mut n = 0;
        while !applying.is_finished() {
            for way in [TO_SERVICE, FROM_SERVER, OUT, BACK] {
                self.site.send((way, n % flows));
            }
            n = n.wrapping_add(1);
            std::thread::sleep(Duration::from_millis(1));
        }
        let report = self.runtime.block_on(applying).unwrap().unwrap();
        assert_eq!(report["applied"]["program"], false, "{report}");
        assert_eq!(report["applied"]["ended"], 0, "{report}");
        let view = self.service.view();
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let status = self.runtime.block_on(view.agent().status(false)).unwrap();
            let entries = status.counters.criteria.now;
            if criteria_are_in(&view.plan(), status.managers, entries) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{entries} criteria of {} managers",
                status.managers
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn flows(&self) -> Vec<FlowStatus> {
        let view = self.service.view();
        self.runtime.block_on(view.agent().flows()).unwrap()
    }

    fn interests(&self) -> u64 {
        let view = self.service.view();
        let status = self.runtime.block_on(view.agent().status(false)).unwrap();
        status.counters.interests
    }

    /// Flows that a manager holds of a service, and has decided anew.
    fn of(&self, manager: &str, service: &str) -> (u64, u64) {
        let view = self.service.view();
        let statuses = self.runtime.block_on(view.manager_statuses());
        let manager = statuses.iter().find(|s| s.manager == manager).unwrap();
        let service = manager.services.iter().find(|s| s.service == service);
        service.map_or((0, 0), |s| {
            let held = match s.targets.as_slice() {
                [] => s.outside.iter().map(|o| o.mappings).sum(),
                targets => targets.iter().map(|t| t.flows).sum(),
            };
            (held, s.counts.decided)
        })
    }
}

// A7.3, A7.4, A7.5, A7.6
#[test]
fn a_division_under_traffic_moves_new_flows_only_and_orphans_none() {
    let mut running = Running::start();
    for ways in [&[TO_SERVICE, OUT][..], &[FROM_SERVER, BACK]] {
        running.site.send_all(ways);
        assert_eq!(running.site.settle(), 0);
    }
    let before = running.flows();
    let asked = running.interests();
    assert_eq!(running.of("one", "dns"), (20, 20));

    running.apply(divided(), FLOWS as u8);
    assert_eq!(running.site.settle(), 0, "established flows lose nothing");
    assert_eq!(
        decided(&running.flows()),
        decided(&before),
        "and are the same"
    );
    assert_eq!(running.interests(), asked, "and nobody is asked about them");
    running.site.assert_counted(&running.flows());
    // Each flow has one manager, which has not decided it again.
    assert_eq!(running.of("one", "dns").0, 10);
    assert_eq!(running.of("two", "dns"), (10, 0));
    assert_eq!(running.of("two", "egress"), (20, 0));
    assert_eq!(running.of("one", "egress"), (0, 0));

    // New flows, from ports 4020 to 4039, are asked about where they belong; so are their answers.
    for ways in [TO_SERVICE, FROM_SERVER] {
        for n in 20..40 {
            running.site.send((ways, n));
        }
        assert_eq!(running.site.settle(), 0);
    }
    assert_eq!(running.of("one", "dns"), (20, 30));
    assert_eq!(running.of("two", "dns"), (20, 10));

    // The division is taken back: one has them all again.
    let before = running.flows();
    running.apply(POLICY.to_owned(), FLOWS as u8);
    assert_eq!(running.site.settle(), 0);
    assert_eq!(decided(&running.flows()), decided(&before));
    assert_eq!(running.of("one", "dns").0, 40);
    assert_eq!(running.of("one", "egress"), (20, 0));
}
