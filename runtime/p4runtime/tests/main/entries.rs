//! From names and typed values to entries, and the words when that fails.

use std::{net::Ipv4Addr, time::Duration};

use signalbox_p4runtime::{
    Catalog, CatalogError, Value,
    proto::p4::v1::{
        FieldMatch, TableEntry,
        field_match::{self, FieldMatchType},
        table_action,
    },
    text,
};

use super::{INFO, catalog};

fn arguments() -> [(&'static str, Value); 2] {
    [
        ("next_hop", 7u16.into()),
        ("dst", Ipv4Addr::new(10, 0, 1, 10).into()),
    ]
}

#[test]
fn an_entry_is_built_from_names() {
    let catalog = catalog();
    let entry = catalog
        .entry("Ingress.web_lb.fixed")
        .exact("sport", 40_000u16)
        .exact("src", Ipv4Addr::new(192, 0, 2, 1))
        .action("to_server", arguments())
        .idle_timeout(Duration::from_secs(300))
        .build()
        .unwrap();
    assert_eq!(entry.table_id, 0x0200_0001);
    let exact = |field_id, value: &[u8]| FieldMatch {
        field_id,
        field_match_type: Some(FieldMatchType::Exact(field_match::Exact {
            value: value.to_vec(),
        })),
    };
    assert_eq!(
        entry.r#match,
        [exact(1, &[192, 0, 2, 1]), exact(2, &[0x9c, 0x40])]
    );
    assert_eq!(entry.idle_timeout_ns, 300_000_000_000);
    let Some(table_action::Type::Action(action)) = entry.action.clone().unwrap().r#type else {
        panic!();
    };
    let params: Vec<(u32, &[u8])> = action
        .params
        .iter()
        .map(|p| (p.param_id, p.value.as_slice()))
        .collect();
    assert_eq!(params, [(1, &[10, 0, 1, 10][..]), (2, &[7])]);
    assert_eq!(
        catalog.describe_entry(&entry),
        "web_lb.fixed src=0xc0000201 sport=40000 -> to_server(dst=0x0a00010a, next_hop=7)"
    );
}

#[test]
fn what_matches_everything_is_left_out_and_what_does_not_matter_is_zero() {
    let catalog = catalog();
    let entry = catalog
        .entry("web_lb.wildcard")
        .ternary("src", 0x0a01_0203u32, 0xffff_0000u32)
        .range("sport", 0u16, 0xffffu16)
        .optional("port", None::<u16>)
        .priority(5)
        .action("discard", [])
        .build()
        .unwrap();
    assert_eq!(
        entry.r#match,
        [FieldMatch {
            field_id: 1,
            field_match_type: Some(FieldMatchType::Ternary(field_match::Ternary {
                value: vec![0x0a, 1, 0, 0],
                mask: vec![0xff, 0xff, 0, 0],
            })),
        }]
    );
    let default_route = catalog
        .entry("guard.wildcard")
        .lpm("dst", Ipv4Addr::UNSPECIFIED, 0)
        .action("discard", [])
        .build()
        .unwrap();
    assert_eq!(default_route.r#match, []);
}

#[test]
fn names_may_be_any_suffix_that_is_unique() {
    let catalog = catalog();
    assert_eq!(catalog.table("fixed").unwrap().id, 0x0200_0001);
    assert_eq!(catalog.table("guard.wildcard").unwrap().id, 0x0200_0003);
    assert_eq!(
        catalog.table("wildcard").unwrap_err().to_string(),
        "`wildcard` may be `Ingress.web_lb.wildcard` or `Ingress.guard.wildcard`: give more of \
         the table's name"
    );
    // No suffix across a word.
    assert!(catalog.table("ixed").is_err());
}

#[test]
fn each_mistake_says_what_there_is_instead() {
    let catalog = catalog();
    let message = |result: Result<TableEntry, CatalogError>| result.unwrap_err().to_string();
    let fixed = || catalog.entry("web_lb.fixed").exact("src", 1u32);
    for (result, expected) in [
        (
            catalog.entry("web_lb.fixd").build(),
            "there is no table `web_lb.fixd`: did you mean `web_lb.fixed`?",
        ),
        (
            fixed().exact("dport", 1u16).build(),
            "`web_lb.fixed` has no match field `dport`: it has `src` and `sport`",
        ),
        (
            fixed().exact("src", 2u32).build(),
            "match field `src` of `web_lb.fixed` is given twice",
        ),
        (
            fixed().action("to_server", arguments()).build(),
            "match field `sport` of `web_lb.fixed` is exact and has no value",
        ),
        (
            fixed().exact("sport", 65_536u32).build(),
            "`sport` of `web_lb.fixed`, a bit<16>: `0x010000` needs 17 bits, and 16 are there",
        ),
        (
            fixed().ternary("sport", 1u16, 1u16).build(),
            "match field `sport` of `web_lb.fixed` is exact: it takes no ternary match",
        ),
        (
            fixed().action("to_servr", []).build(),
            "`web_lb.fixed` has no action `to_servr`: it has `to_server` and `discard`",
        ),
        (
            fixed().action("discard", []).build(),
            "action `discard` of `web_lb.fixed` is only for the default action",
        ),
        (
            fixed().action("to_server", [("dst", 1u32.into())]).build(),
            "action `to_server`: parameter `next_hop` has 0 values instead of one",
        ),
        (
            fixed().action("to_server", [("mac", 1u32.into())]).build(),
            "action `to_server` has no parameter `mac`: it has `dst` and `next_hop`",
        ),
        (
            fixed().build(),
            "an entry of `web_lb.fixed` needs an action",
        ),
        (
            fixed()
                .exact("sport", 1u16)
                .priority(3)
                .action("to_server", arguments())
                .build(),
            "`web_lb.fixed`: its keys are exact or lpm, so an entry has no priority",
        ),
        (
            catalog
                .entry("web_lb.wildcard")
                .action("discard", [])
                .build(),
            "`web_lb.wildcard`: its keys are not all exact or lpm, so an entry needs a priority \
             above 0",
        ),
        (
            catalog
                .entry("guard.wildcard")
                .idle_timeout(Duration::from_secs(1))
                .build(),
            "`guard.wildcard` was compiled without `support_timeout`: its entries do not age",
        ),
        (
            catalog.entry("guard.wildcard").lpm("dst", 0u32, 33).build(),
            "match field `dst` of `guard.wildcard`: a prefix of 33 bits in a field of 32",
        ),
        (
            catalog
                .entry("web_lb.wildcard")
                .range("sport", 256u16, 2u16)
                .build(),
            "match field `sport` of `web_lb.wildcard`: the range 256..2 is empty",
        ),
    ] {
        assert_eq!(message(result), expected);
    }
}

#[test]
fn packet_metadata_goes_by_name_and_by_order() {
    let catalog = catalog();
    let header = catalog.header("packet_in").unwrap();
    let metadata = header
        .pack([("port", Value::from(300u16)), ("kind", Value::from(3u8))])
        .unwrap();
    assert_eq!(header.unpack_in_order(&metadata).unwrap(), [3, 300]);
    assert_eq!(header.get(&metadata, "port").unwrap().to_u64(), Some(300));
    assert_eq!(header.pack_in_order(&[3, 300]).unwrap().len(), 2);
    assert!(header.pack_in_order(&[3]).is_err());
    assert_eq!(
        header.pack_in_order(&[128, 1]).unwrap_err().to_string(),
        "`kind` of `packet_in`, a bit<7>: `128` needs 8 bits, and 7 are there"
    );
    assert_eq!(
        header
            .unpack_in_order(&metadata[..1])
            .unwrap_err()
            .to_string(),
        "field `kind` of `packet_in` has no value"
    );
}

#[test]
fn a_p4info_that_contradicts_itself_is_refused() {
    let load = |text: String| Catalog::new(text::parse_p4info(&text).unwrap()).unwrap_err();
    let twice = load(INFO.replace("id: 0x02000002", "id: 0x02000001"));
    assert_eq!(
        twice.to_string(),
        "id 0x02000001 of table `Ingress.web_lb.wildcard` is zero or was given before"
    );
    let dangling = load(INFO.replace("action_refs { id: 0x01000001 }", "action_refs { id: 5 }"));
    assert_eq!(
        dangling.to_string(),
        "`Ingress.web_lb.fixed` refers to action 0x00000005, which does not exist"
    );
}
