//! Pieces of policies that tests put together.

use signalbox_policy::model::Policy;

pub const NETWORK: &str = "
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack-a { address 10.0.1.1/24 }
  port 3 rack-b { address 10.0.2.1/24 }
  route 0.0.0.0/0 via 203.0.113.254
}
";

pub const DUAL_NETWORK: &str = "
network {
  port 1 clients { address 203.0.113.1/24; address 2001:db8:1::1/64 }
  port 2 rack-a { address 10.0.1.1/24; address 2001:db8:2::1/64 }
}
";

pub const POOL: &str = "
pool web {
  10.0.1.10:8080 weight 2
  10.0.2.10:8080
}
";

pub const BALANCE: &str = "
service web-lb : balance {
  match tcp.dst 203.0.113.80:443
  pick from @web by weighted
}
managers { lb-1 serves web-lb }
";

/// The checked policy of a text that must have no errors.
#[track_caller]
pub fn policy(text: &str) -> Policy {
    let checked = signalbox_policy::check(text, "test.policy");
    match checked.policy {
        Some(policy) => policy,
        None => panic!("{:#?}\n{text}", checked.diagnostics),
    }
}
