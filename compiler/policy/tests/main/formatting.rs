//! The formatter: what it makes of a text, and that it changes nothing of its meaning.

use proptest::prelude::*;
use signalbox_policy::{check, fmt};

use crate::texts::{BALANCE, NETWORK, POOL};

#[track_caller]
fn becomes(text: &str, expect: &str) {
    let once = fmt(text);
    assert_eq!(once, expect);
    assert_eq!(fmt(&once), once, "formatting twice changes something");
}

#[test]
fn clauses_stand_on_lines_of_their_own_and_short_inner_blocks_on_one() {
    becomes(
        "network{port 1 a{address 10.0.1.1/24}port 2 b{address 10.0.2.1/24;mac 02:00:00:00:00:01;}}set s={1.2.3.4,\n5.6.7.0/24}",
        "\
network {
  port 1 a { address 10.0.1.1/24 }
  port 2 b {
    address 10.0.2.1/24
    mac 02:00:00:00:00:01
  }
}

set s = { 1.2.3.4, 5.6.7.0/24 }
",
    );
}

#[test]
fn comments_stay_where_they_are() {
    becomes(
        "# head\n\n\n# of the set\nset a = { 1.2.3.4 } # one\nset b = { # inside\n 5.6.7.8 }\npool p { # first\n   # own line\n 10.0.0.1:1   # a server\n # last\n}\n# end",
        "\
# head

# of the set
set a = { 1.2.3.4 } # one
set b = { # inside
  5.6.7.8
}

pool p { # first
  # own line
  10.0.0.1:1 # a server
  # last
}
# end
",
    );
}

#[test]
fn comments_in_a_list_of_values_stand_with_its_elements() {
    becomes(
        "set a={ # bad ones\n1.2.3.4, # one\n# two and three\n5.6.7.8,9.9.9.9\n# end\n}\nservice f:filter{deny ip.src in{\n# x\n1.2.3.4\n}and\n# only those\ntcp\n# next\ndeny udp}",
        "\
set a = { # bad ones
  1.2.3.4, # one
  # two and three
  5.6.7.8, 9.9.9.9
  # end
}

service f : filter {
  deny ip.src in {
    # x
    1.2.3.4
  } and
    # only those
    tcp
  # next
  deny udp
}
",
    );
}

#[test]
fn clauses_of_a_gate_are_spaced_as_they_are_read() {
    becomes(
        "service d:gate{match tcp.dst 10.0.1.5:22;allow(ip.src in @a or ip.src in @b)and tcp.src 1024 .. 65535 from 08:00 to 18:00 on mon .. fri,sun\nlimit 5/s per source,3 proxied;look tls.name in{\"a.org\",\"*.b.org\"};look bytes \"SSH-\" mask \"\\xff\" at 0;refuse reset;connect within 5s;hand-over within 1m;keep idle 1h,proxied 5m;mss 1400;window-scale 7;buffer 4096}",
        "\
service d : gate {
  match tcp.dst 10.0.1.5:22
  allow (ip.src in @a or ip.src in @b) and tcp.src 1024..65535 from 08:00 to 18:00 on mon..fri, sun
  limit 5/s per source, 3 proxied
  look tls.name in { \"a.org\", \"*.b.org\" }
  look bytes \"SSH-\" mask \"\\xff\" at 0
  refuse reset
  connect within 5s
  hand-over within 1m
  keep idle 1h, proxied 5m
  mss 1400
  window-scale 7
  buffer 4096
}
",
    );
}

#[test]
fn clauses_of_nat_observe_and_balance_are_spaced_as_they_are_read() {
    becomes(
        "service n:nat{match ip.src in 10.0.0.0/8;source 203.0.113.100 .. 203.0.113.103,203.0.113.120 ports 1024 .. 65535\nkeep established 2h4m,udp 5m\nhold-back 120s;inbound mapped\nlimit 1000/s,64 tuples per source}service p:nat{match ip.src in 10.0.0.0/28;one-to-one 10.0.0.0/28=203.0.113.96/28}service o:observe{match ip;count packets,bytes,flags per flow;report every 10s,on close}service b:balance{match tcp.dst 203.0.113.80:80;pick from @web by least-connections;stick source 10m;slow-start 30s;way gue;on-death reset}test \"t\"{send tcp syn 10.0.0.1:1->192.0.2.9:80 on a\nexpect forward on b from 203.0.113.100 .. 203.0.113.103 to 192.0.2.9:80\nsend answer syn+ack on b ttl 9\nexpect count by o}",
        "\
service n : nat {
  match ip.src in 10.0.0.0/8
  source 203.0.113.100..203.0.113.103, 203.0.113.120 ports 1024..65535
  keep established 2h4m, udp 5m
  hold-back 120s
  inbound mapped
  limit 1000/s, 64 tuples per source
}

service p : nat {
  match ip.src in 10.0.0.0/28
  one-to-one 10.0.0.0/28 = 203.0.113.96/28
}

service o : observe {
  match ip
  count packets, bytes, flags per flow
  report every 10s, on close
}

service b : balance {
  match tcp.dst 203.0.113.80:80
  pick from @web by least-connections
  stick source 10m
  slow-start 30s
  way gue
  on-death reset
}

test \"t\" {
  send tcp syn 10.0.0.1:1 -> 192.0.2.9:80 on a
  expect forward on b from 203.0.113.100..203.0.113.103 to 192.0.2.9:80
  send answer syn+ack on b ttl 9
  expect count by o
}
",
    );
}

#[test]
fn long_conditions_break_before_and_and_or() {
    becomes(
        "service f:filter{deny ip.src in 198.51.100.0/24 and not tcp.dst in{80,443}or(udp.dst 53 and ip.dst 192.0.2.53)or tcp.flags syn/syn+ack}",
        "\
service f : filter {
  deny ip.src in 198.51.100.0/24 and not tcp.dst in { 80, 443 }
    or (udp.dst 53 and ip.dst 192.0.2.53) or tcp.flags syn/syn+ack
}
",
    );
}

#[test]
fn blank_lines_are_kept_one_at_a_time() {
    becomes(
        "test \"t\" {\n\n  send udp 10.0.0.1:1 -> 10.0.0.2:2 on a\n  expect drop\n\n\n\n  send udp 10.0.0.1:1 -> 10.0.0.2:2 on a\n  expect drop\n\n}\n\n",
        "\
test \"t\" {
  send udp 10.0.0.1:1 -> 10.0.0.2:2 on a
  expect drop

  send udp 10.0.0.1:1 -> 10.0.0.2:2 on a
  expect drop
}
",
    );
}

#[test]
fn a_text_with_syntax_errors_is_left_alone() {
    let text = "set a =   { 1.2.3.4,, }";
    assert_eq!(fmt(text), text);
}

/// Items in forms that a formatter can get wrong.
const PIECES: [&str; 11] = [
    "set s={10.0.0.0/8,192.0.2.1..192.0.2.9}",
    "service f:filter{deny ip.src in @s and not(tcp.dst 80 or udp) # why\n deny tcp.flags syn/syn+ack and ip.dst 203.0.113.7;}",
    "cascade f>web-lb",
    "test \"a\" {\n send tcp syn 192.0.2.1:4000->203.0.113.80:443 on clients ttl 9 payload 3\n expect drop by f }",
    "service g : filter { default deny }\n\n\n# note\n",
    "service n:nat{match ip.src in 10.0.0.0/8 # why\nsource 203.0.113.100..203.0.113.103 ports 1024 .. 65535;limit 5/s,\n64 tuples per source}",
    "service o : observe { match ip;count packets , bytes\nreport every 10s }",
    "service d:gate{match tcp.dst 10.0.1.10:22;allow ip.src in @s from 08:00 to 18:00 on mon .. fri,sun;look bytes \"\\x16\" at 0\nlimit 5/s,3 proxied}",
    NETWORK,
    POOL,
    BALANCE,
];

proptest! {
    #[test]
    fn a_formatted_policy_means_the_same(order in Just(PIECES.to_vec()).prop_shuffle(), take in 0usize..=11) {
        let text = order.into_iter().take(take).collect::<Vec<_>>().join("\n");
        let formed = fmt(&text);
        prop_assert_eq!(&fmt(&formed), &formed);
        let (before, after) = (check(&text, "t.policy"), check(&formed, "t.policy"));
        prop_assert_eq!(before.policy, after.policy);
        let codes = |d: &[signalbox_policy::diagnostic::Diagnostic]| {
            let mut codes: Vec<_> = d.iter().map(|d| (d.code, d.message.clone())).collect();
            codes.sort();
            codes
        };
        prop_assert_eq!(codes(&before.diagnostics), codes(&after.diagnostics));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = check(&text, "t.policy");
        let _ = fmt(&text);
    }

    #[test]
    fn no_mangled_policy_makes_the_checker_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("network"), Just("port"), Just("1"), Just("a"), Just("{"), Just("}"), Just("("), Just(")"),
                Just("address"), Just("10.0.1.1/24"), Just("set"), Just("="), Just(","), Just("pool"), Just("@a"),
                Just("10.0.1.10:80"), Just("service"), Just(":"), Just("balance"), Just("filter"), Just("match"),
                Just("deny"), Just("not"), Just("and"), Just("tcp.dst"), Just("80"), Just(".."), Just("in"), Just("\n"),
                Just("test"), Just("\"t\""), Just("send"), Just("tcp"), Just("->"), Just("on"), Just("expect"),
                Just("drop"), Just("#x\n"), Just("cascade"), Just(">"), Just("managers"), Just("serves"), Just("2001:db8::1"),
                Just("pick"), Just("from"), Just("by"), Just("weighted"), Just("check"), Just("every"), Just("2s"), Just(";"),
            ],
            0..60,
        )
    ) {
        let text = words.join(" ");
        let checked = check(&text, "t.policy");
        for format in [signalbox_policy::render::Format::Human { colour: true }, signalbox_policy::render::Format::Json] {
            let _ = signalbox_policy::render::render(&checked.diagnostics, &text, "t.policy", format);
        }
        let formed = fmt(&text);
        prop_assert_eq!(fmt(&formed), formed);
    }

    #[test]
    fn no_mangled_service_makes_the_checker_panic_or_dwell(
        kind in prop_oneof![Just("nat"), Just("observe"), Just("balance"), Just("gate")],
        clauses in proptest::collection::vec(
            prop_oneof![
                Just("match ip"), Just("match tcp.dst 203.0.113.80:443"), Just("match ip.dst in 0.0.0.0..255.255.255.255"),
                Just("match ip.src in 10.0.0.0/8 or ipv6"), Just("match udp.dst { 53, 203.0.113.80:1 }"),
                Just("source 203.0.113.100..203.0.113.103, 2001:db8::/96"), Just("source 0.0.0.0..255.255.255.255"),
                Just("source ::/0"), Just("source 203.0.113.0/25 ports 3..60001"), Just("source 203.0.113.100"),
                Just("one-to-one 10.0.0.0/8 = 11.0.0.0/8"), Just("one-to-one 10.0.0.0/24 = 203.0.113.0/24"),
                Just("one-to-one ::/0 = ::/0"), Just("one-to-one 10.0.0.5 = 203.0.113.5"), Just("destination 10.0.1.10:80"),
                Just("destination 10.0.1.1"), Just("destination [::1]:0"), Just("keep udp 1s, idle 1s"), Just("hold-back 0s"),
                Just("limit 1/s, 5 tuples per source, 9 half-open"), Just("limit 99999999999"), Just("inbound mapped"),
                Just("count packets, bytes"), Just("count packets, bytes, flags per flow"), Just("report every 1s, on close"),
                Just("pick from @web by least-connections"), Just("way gue"), Just("way mac"), Just("on-death reset"),
                Just("stick source 1h"), Just("fallback route"), Just("limit"), Just("source"), Just("report on"),
                Just("match tcp.dst 10.0.1.10:8080"), Just("allow ip"), Just("allow ip.src in 10.0.0.0/8 from 22:00 to 06:00 on sat..mon"),
                Just("allow tcp.src 1024..65535 on"), Just("allow port clients from 01:00"), Just("look tls.name \"*.a.b\""),
                Just("look http.host in { \"a\", }"), Just("look bytes \"\\x\" mask \"\" at 9999"), Just("look"), Just("refuse reset"),
                Just("limit 5 connections per source, 7/s"), Just("connect within 1s"), Just("hand-over"), Just("mss 65535"),
                Just("window-scale 99"), Just("buffer 4096"), Just("keep proxied 1s"),
            ],
            0..8,
        )
    ) {
        let text = format!(
            "{NETWORK}{POOL}{BALANCE}service x : {kind} {{\n{}\n}}\ncascade web-lb > x\ntest \"t\" {{\nsend answer on clients\nexpect forward on clients from 0.0.0.0/0\nexpect count by x\n}}\n",
            clauses.join("\n")
        );
        let checked = check(&text, "t.policy");
        if let Some(policy) = checked.policy {
            let _ = signalbox_policy::testing::run(&policy);
        }
        let formed = fmt(&text);
        prop_assert_eq!(fmt(&formed), formed);
    }

    #[test]
    fn a_text_of_any_script_is_read_shown_and_formatted(
        words in proptest::collection::vec(
            prop_oneof![
                Just("# Schlüssel, grün\n"), Just("\u{feff}"), Just("ü"), Just("🔑"), Just("\r\n"), Just("\n"), Just("\t"),
                Just("\u{2028}"), Just("e\u{301}"), Just("\"grün"), Just("\"schön\""), Just("network {"), Just("}"), Just("{"),
                Just("port 1 größe"), Just("set s = { 1.2.3.4, # ß\n"), Just("service f : filter {"), Just("deny ip.src"),
                Just("deny tcp and"), Just("not"), Just("in { 80, "), Just("10.0.0.1:99999"), Just("@ü"), Just("pool p {"),
                Just("10.0.0.1"), Just("cascade"), Just("test \"ä\" {"), Just("send udp"), Just("expect drop by"),
            ],
            0..40,
        ),
        glue in prop_oneof![Just(""), Just(" "), Just("\n")],
        noise in "\\PC{0,20}",
    ) {
        use signalbox_policy::render::{Format, line_column, render};
        let text = format!("{}{noise}", words.join(glue));
        let checked = check(&text, "grün.policy");
        for format in [Format::Human { colour: true }, Format::Human { colour: false }, Format::Json, Format::Plain] {
            let _ = render(&checked.diagnostics, &text, "grün.policy", format);
        }
        for d in &checked.diagnostics {
            // The place is that of the very character.
            let (line, column) = line_column(&text, d.span.start);
            let before: Vec<&str> = text[..d.span.start].split('\n').collect();
            prop_assert_eq!(line, before.len());
            prop_assert_eq!(column, before[line - 1].chars().count() + 1);
        }
        let formed = fmt(&text);
        prop_assert_eq!(fmt(&formed), formed);
    }

    #[test]
    fn comments_anywhere_are_kept_and_stay_put(places in proptest::collection::btree_map(0usize..70, any::<bool>(), 0..8)) {
        let text = "set s = { 10.0.0.0/8 , 192.0.2.1..192.0.2.9 , 192.0.2.77 } pool p { 10.0.1.9:80 weight 2 check tcp every 2s } \
                    service f : filter { deny ip.src in @s and not ( tcp.dst in { 80 , 443 } or udp ) deny ip.dst in { 1.2.3.4 , 5.6.7.8 } }";
        let mut with_comments = String::new();
        for (i, word) in text.split(' ').enumerate() {
            if let Some(own_line) = places.get(&i) {
                with_comments.push_str(if *own_line { "\n# note\n" } else { "# note\n" });
            }
            with_comments.push_str(word);
            with_comments.push(' ');
        }
        let formed = fmt(&with_comments);
        prop_assert_eq!(&fmt(&formed), &formed);
        prop_assert_eq!(formed.matches("# note").count(), with_comments.matches("# note").count());
        let mut depth = 0;
        for line in formed.lines() {
            let indent = line.len() - line.trim_start().len();
            // A line stands at least as far in as the blocks around it, but for the brace that ends one.
            let code = line.split('#').next().unwrap();
            let closing = code.trim_start().starts_with('}');
            prop_assert!(indent >= 2 * (depth - usize::from(closing)), "{}", formed);
            depth = depth + code.matches('{').count() - code.matches('}').count();
        }
    }

    #[test]
    fn a_policy_cut_anywhere_is_still_read(at in 0usize..1200) {
        let text = format!("{NETWORK}{POOL}{BALANCE}{}{}{}", PIECES[3], PIECES[5], PIECES[6]);
        let cut: String = text.chars().take(at).collect();
        let _ = check(&cut, "t.policy");
    }
}

#[test]
fn parts_of_services_and_backups_are_formatted_as_they_are_read() {
    becomes(
        "managers{a  serves s where ip.src in 0.0.0.0/1\n b serves s,t where not(ip.src in 0.0.0.0/1)\nbackup a with b  after 1500ms replicate sync}",
        "managers {\n  a serves s where ip.src in 0.0.0.0/1\n  b serves s, t where not (ip.src in 0.0.0.0/1)\n  backup a with b after 1500ms replicate sync\n}\n",
    );
}
