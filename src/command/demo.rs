//! `signalbox demo`: examples/web.policy with real TCP through it, in this process.

use std::io::IsTerminal;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::demo::{self, ManagerTraffic, Options, Report, ServiceView};
use crate::failure::Failure;
use crate::image;
use crate::output;
use crate::service::{Service, View};

/// The policy, as it was when the program was built.
const WEB: &str = include_str!("../../examples/web.policy");

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// How many connections are made
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=40_000))]
    connections: u32,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let checked = signalbox_policy::check(WEB, "web.policy");
    let policy = checked.policy.ok_or_else(|| {
        Failure::Failed(
            "the demo's policy has errors; see `signalbox check examples/web.policy`".to_owned(),
        )
    })?;
    let compiled = image::compile(policy)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let service = runtime.block_on(Service::start_embedded(&compiled))?;
    let view = Watched {
        view: service.view(),
        runtime: runtime.handle().clone(),
    };
    let report = drive(&view, arguments)?;
    if arguments.json {
        output::line(report.json())?;
    } else {
        output::line(report.text())?;
    }
    if report.completed < report.connections {
        let lost = report.connections - report.completed;
        return Err(Failure::Failed(format!(
            "{lost} connections did not complete"
        )));
    }
    Ok(())
}

fn drive(view: &Watched, arguments: &Arguments) -> Result<Report, Failure> {
    let switch = view
        .view
        .switch()
        .cloned()
        .ok_or_else(|| Failure::Failed("the demo needs the embedded switch".to_owned()))?;
    let options = Options {
        connections: arguments.connections,
        ..Options::default()
    };
    let bar = if arguments.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} connections")
            .map_err(Failure::failed)?;
        ProgressBar::new(u64::from(options.connections)).with_style(style)
    };
    let report = demo::run(&switch, &view.view.plan(), view, &options, |done| {
        bar.set_position(done)
    })
    .map_err(Failure::failed);
    bar.finish_and_clear();
    report
}

/// The running service, as the demo's traffic sees it.
struct Watched {
    view: View,
    runtime: tokio::runtime::Handle,
}

impl ServiceView for Watched {
    fn is_ready(&self) -> bool {
        let statuses = self.runtime.block_on(self.view.manager_statuses());
        statuses
            .iter()
            .flat_map(|status| &status.services)
            .flat_map(|service| &service.targets)
            .all(|target| target.up)
    }

    fn manager_traffic(&self) -> ManagerTraffic {
        let statuses = self.runtime.block_on(self.view.manager_statuses());
        let mut traffic = ManagerTraffic::default();
        for service in statuses.iter().flat_map(|status| &status.services) {
            let counts = &service.counts;
            traffic.interest_packets += counts.decided + counts.no_choice;
            traffic.repeated_interest_packets += counts.repeated;
            traffic.established_packets += counts.mid_flow_known + counts.mid_flow_unknown;
        }
        traffic
    }
}
