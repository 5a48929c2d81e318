//! What a controller sees of the program: the plan's names are those of the P4Info.

use crate::rig::{Rig, checked};
use crate::{DUAL, WEB};

#[test]
fn every_example_compiles_without_a_word() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "policy") {
            // Loads, takes every static entry by its names and widths, and warns of nothing.
            Rig::new(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn tables_and_counters_of_the_plan_are_in_the_p4info_with_their_sizes() {
    for policy in [WEB, DUAL] {
        let rig = Rig::bare(policy);
        let info = &rig.image.p4info;
        let size = |name: &str| {
            let table = info
                .tables
                .iter()
                .find(|t| t.preamble.as_ref().unwrap().name == name);
            table.unwrap_or_else(|| panic!("no table {name}")).size
        };
        for part in rig
            .plan
            .services
            .iter()
            .flat_map(|s| std::iter::once(&s.forward).chain(&s.reply))
        {
            assert_eq!(size(&part.criteria_table), i64::from(part.criteria_size));
            if let Some(fixed) = &part.fixed {
                assert_eq!(size(fixed), i64::from(part.fixed_size));
            }
            let counter = info
                .counters
                .iter()
                .find(|c| c.preamble.as_ref().unwrap().name == part.stats);
            assert_eq!(counter.unwrap().size, i64::from(part.cells()));
        }
    }
}

#[test]
fn a_service_has_room_for_as_many_flows_as_the_policy_says() {
    let text = |limit: &str| {
        format!(
            "network {{\n  port 1 a {{ address 203.0.113.1/24 }}\n  port 2 b {{ address 10.0.1.1/24 }}\n}}\n\
             pool web {{ 10.0.1.10:80 }}\n\
             service meter : observe {{ match tcp\n {limit} }}\n\
             service web-lb : balance {{ match tcp.dst 203.0.113.80:80\n pick from @web by weighted }}\n\
             cascade meter > web-lb\nmanagers {{ m serves meter, web-lb }}\n"
        )
    };
    for (limit, wanted, count) in [("", 65_536, 3), ("limit 200000 flows", 200_000, 1)] {
        let rig = Rig::load(&checked(&text(limit)));
        let sizes: Vec<i64> = (rig.image.p4info.tables.iter())
            .filter(|t| t.preamble.as_ref().unwrap().name.ends_with(".fixed"))
            .map(|t| t.size)
            .collect();
        assert_eq!(sizes.len(), 3);
        assert_eq!(
            sizes.iter().filter(|size| **size == wanted).count(),
            count,
            "`{limit}`"
        );
    }
}

#[test]
fn packet_in_and_packet_out_have_the_same_fields_and_whole_bytes() {
    let rig = Rig::bare(WEB);
    let fields = |name: &str| -> Vec<(String, i32)> {
        let header = rig.image.p4info.controller_packet_metadata.iter();
        let mut found = header.filter(|h| h.preamble.as_ref().unwrap().name == name);
        found
            .next()
            .unwrap()
            .metadata
            .iter()
            .map(|m| (m.name.clone(), m.bitwidth))
            .collect()
    };
    assert_eq!(fields("packet_in"), fields("packet_out"));
    assert_eq!(fields("packet_in").iter().map(|f| f.1).sum::<i32>(), 17 * 8);
}
