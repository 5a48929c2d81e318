//! The site in memory on every target: requests, a download, a server's death and the manager's.

use bmv2_tests::image::Compiler;
use bmv2_tests::site::{
    a_download_arrives_whole_and_pings_are_answered as a_download,
    a_full_table_keeps_new_connections_out_and_no_other as full_table,
    connections_to_a_silent_server_are_reset as resets, deaths_harm_nobody_else as deaths,
    new_connections_go_where_servers_report_room as loads,
    three_hundred_requests_are_balanced_and_counted as requests,
};
use bmv2_tests::targets::Target;

macro_rules! matrix {
    ($($(#[$about:meta])* $test:ident: $scenario:ident, $target:ident, $compiler:ident;)*) => {$(
        $(#[$about])*
        #[test]
        fn $test() {
            if crate::can_run(stringify!($test), Target::$target, Compiler::$compiler) {
                $scenario(Target::$target, Compiler::$compiler);
            }
        }
    )*};
}

matrix! {
    // A6.1
    requests_are_balanced_and_counted: requests, Embedded, Ours;
    requests_are_balanced_and_counted_with_the_limits_of_bmv2: requests, Quirks, Ours;
    requests_are_balanced_and_counted_over_grpc: requests, Grpc, Ours;
    requests_are_balanced_and_counted_on_bmv2: requests, Bmv2, Ours;
    requests_are_balanced_and_counted_with_p4cs_image: requests, Embedded, P4c;

    a_download_arrives_whole: a_download, Embedded, Ours;
    a_download_arrives_whole_with_the_limits_of_bmv2: a_download, Quirks, Ours;
    a_download_arrives_whole_over_grpc: a_download, Grpc, Ours;
    a_download_arrives_whole_on_bmv2: a_download, Bmv2, Ours;
    a_download_arrives_whole_with_p4cs_image: a_download, Embedded, P4c;

    // A6.13, A9.4, A9.10
    deaths_harm_nobody_else: deaths, Embedded, Ours;
    deaths_harm_nobody_else_with_the_limits_of_bmv2: deaths, Quirks, Ours;
    deaths_harm_nobody_else_over_grpc: deaths, Grpc, Ours;
    deaths_harm_nobody_else_on_bmv2: deaths, Bmv2, Ours;
    deaths_harm_nobody_else_with_p4cs_image: deaths, Embedded, P4c;

    /// A6.16
    connections_to_a_silent_server_are_reset: resets, Embedded, Ours;
    /// A6.16
    connections_to_a_silent_server_are_reset_with_the_limits_of_bmv2: resets, Quirks, Ours;
    /// A6.16
    connections_to_a_silent_server_are_reset_on_bmv2: resets, Bmv2, Ours;

    // When a table of the switch is full
    a_full_table_keeps_new_connections_out: full_table, Embedded, Ours;

    /// A6.12
    new_connections_go_where_servers_report_room: loads, Embedded, Ours;
    /// A6.12
    new_connections_go_where_servers_report_room_with_the_limits_of_bmv2: loads, Quirks, Ours;
    /// A6.12
    new_connections_go_where_servers_report_room_on_bmv2: loads, Bmv2, Ours;
}
