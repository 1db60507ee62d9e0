use super::*;

fn try_look(document: &str, known: Known<'_>) -> Result<Structure> {
    let [outline, strict] = [Rigour::Outline, Rigour::Strict]
        .map(|rigour| look(Box::new(std::io::Cursor::new(document.as_bytes().to_vec())), "f.xml", known, rigour, |_| Ok(())));
    if let Ok(strict) = &strict {
        assert_eq!(outline.as_ref().ok(), Some(strict), "{document}");
    }
    strict
}

fn records(document: &str) -> Vec<(String, String)> {
    pairs(&try_look(document, Known::Earlier(&[])).expect("well formed").records)
}

fn pairs(records: &[RecordPath]) -> Vec<(String, String)> {
    records.iter().map(|r| (r.table.clone(), r.path.clone())).collect()
}

fn is(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(t, p)| (t.to_string(), p.to_string())).collect()
}

fn paths(pairs: &[(&str, &str)]) -> Vec<RecordPath> {
    pairs.iter().map(|(t, p)| RecordPath { table: t.to_string(), path: p.to_string() }).collect()
}

const BOTH: &[(&str, &str)] = &[("customers", "/Root/Customers/Customer"), ("orders", "/Root/Orders/Order")];

#[test]
fn elements_that_repeat_under_one_parent_are_records_named_after_their_wrapper() {
    let document = "<Root><Customers><Customer ID='1'/><Customer ID='2'/></Customers>\
                    <Orders><Order><Id>1</Id></Order><Order><Id>2</Id></Order></Orders></Root>";
    assert_eq!(records(document), is(BOTH));
}

#[test]
fn a_single_record_beside_repeating_ones_is_still_a_record() {
    let document = "<Root><Customers><Customer ID='1'/></Customers><Orders><Order><Id>1</Id></Order><Order/></Orders></Root>";
    assert_eq!(records(document), is(BOTH));
}

#[test]
fn a_single_record_of_each_kind_is_found() {
    let document = "<Root><Customers><Customer ID='1'/></Customers><Orders><Order><Id>1</Id></Order></Orders></Root>";
    assert_eq!(records(document), is(BOTH));
}

#[test]
fn one_customer_alone_is_a_customer_and_not_a_row_of_the_root() {
    let document =
        "<Root><Customers><Customer ID='1'><Name>a</Name><Address><City>b</City></Address></Customer></Customers></Root>";
    assert_eq!(records(document), is(&BOTH[..1]));
}

#[test]
fn orders_before_customers_other_roots_and_namespaces_do_not_matter() {
    let document = "<x:Other xmlns:x='u' xmlns='v'><Orders><Order a='1'/><x:Order a='2'/></Orders>\
                    <x:Customers><Customer b='1'/></x:Customers></x:Other>";
    let found = is(&[("orders", "/Other/Orders/Order"), ("customers", "/Other/Customers/Customer")]);
    assert_eq!(records(document), found);
}

#[test]
fn a_document_without_text_and_attributes_has_no_records() {
    for document in ["<Root/>", "<Root>\n</Root>", "<Root><Customers> </Customers><Orders/></Root>", "<Root xmlns='u'/>"] {
        let structure = try_look(document, Known::Earlier(&[])).expect("well formed");
        assert!(structure.records.is_empty() && structure.blank, "{document}");
    }
}

#[test]
fn known_tables_whose_wrapper_is_empty_get_no_rows_but_are_named() {
    let known = paths(BOTH);
    let structure = try_look("<Root><Customers></Customers><Orders/></Root>", Known::Earlier(&known)).expect("well formed");
    assert_eq!(pairs(&structure.records), is(BOTH));
    assert_eq!(structure.missing.len(), 2);
}

#[test]
fn paths_of_earlier_loads_go_first_and_new_branches_are_still_found() {
    let known = paths(&[("people", "/Root/Customers/Customer"), ("gone", "/Other/Thing")]);
    let document = "<Root><Customers><Customer><Id>1</Id></Customer></Customers><Orders><Order/><Order/></Orders></Root>";
    let structure = try_look(document, Known::Earlier(&known)).expect("well formed");
    assert_eq!(pairs(&structure.records), is(&[("people", "/Root/Customers/Customer"), ("orders", "/Root/Orders/Order")]));
}

#[test]
fn an_earlier_path_below_an_element_that_repeats_now_still_counts() {
    let known = paths(&[("orders", "/Root/Batch/Order")]);
    let document = "<Root><Batch><Order><Id>1</Id></Order></Batch><Batch><Order><Id>2</Id></Order></Batch></Root>";
    let structure = try_look(document, Known::Earlier(&known)).expect("well formed");
    assert_eq!(pairs(&structure.records), is(&[("orders", "/Root/Batch/Order")]));
    assert_eq!(records(document), is(&[("root", "/Root/Batch")]));
}

#[test]
fn named_paths_are_the_only_records_and_absent_ones_are_told() {
    let named = paths(&[("o", "/Root/Orders/Order"), ("x", "/Root/Nothing")]);
    let document = "<Root><Customers><Customer>1</Customer></Customers><Orders><Order>1</Order><Order/></Orders></Root>";
    let structure = try_look(document, Known::Named(&named)).expect("well formed");
    assert_eq!(pairs(&structure.records), is(&[("o", "/Root/Orders/Order"), ("x", "/Root/Nothing")]));
    assert_eq!(pairs(&structure.missing), is(&[("x", "/Root/Nothing")]));
    assert_eq!(structure.outside, ["/Root/Customers/Customer"]);
}

#[test]
fn the_items_of_a_feed_are_records_and_what_stands_beside_them_is_told() {
    let document = "<rss version='2.0'><channel><title>News</title><item><title>a</title></item><item><title>b</title></item></channel></rss>";
    let structure = try_look(document, Known::Earlier(&[])).expect("well formed");
    assert_eq!(pairs(&structure.records), is(&[("item", "/rss/channel/item")]));
    assert_eq!(structure.outside, ["/rss", "/rss/channel/title"]);
}

#[test]
fn an_envelope_with_one_answer_leads_to_the_answer() {
    let document = "<s:Envelope xmlns:s='u'><s:Body><r:GetResponse xmlns:r='v'><r:Id>1</r:Id><r:Name>x</r:Name></r:GetResponse></s:Body></s:Envelope>";
    assert_eq!(records(document), is(&[("body", "/Envelope/Body/GetResponse")]));
}

#[test]
fn a_flat_root_is_one_record() {
    assert_eq!(records("<Order><Id>1</Id><Total>2</Total></Order>"), is(&[("order", "/Order")]));
    assert_eq!(records("<Setting>1</Setting>"), is(&[("setting", "/Setting")]));
    let with_part = "<Order><Id>1</Id><Ship><Address><City>x</City></Address></Ship></Order>";
    assert_eq!(records(with_part), is(&[("order", "/Order")]), "a part is no record if the rest would be lost");
}

#[test]
fn the_outermost_repeating_element_wins_and_deeper_ones_are_arrays() {
    let document = "<orders><order><line/><line/></order><order><line/></order></orders>";
    assert_eq!(records(document), is(&[("orders", "/orders/order")]));
}

#[test]
fn rows_made_of_attributes_are_records() {
    assert_eq!(records("<dataRows><row a='1'/></dataRows>"), is(&[("data_rows", "/dataRows/row")]));
}

#[test]
fn elements_of_one_name_in_two_places_get_two_tables() {
    let document = "<r><a><x/><item>1</item><item/></a><b><y/><item>1</item><item/></b></r>";
    assert_eq!(records(document), is(&[("item", "/r/a/item"), ("item_2", "/r/b/item")]));
}

#[test]
fn a_document_that_is_not_well_formed_is_refused_with_line_and_column() {
    let cases = [
        ("hello world", 1, 1, "text before the root"),
        ("<a>\n  <b></a>\n</a>", 2, 6, "</a> stands where </b> is due"),
        ("<a>\n<b>", 2, 4, "<b> is still open"),
        ("<a/>\n<b/>", 2, 1, "second root element <b>"),
        ("<a/> x", 1, 6, "text behind the root"),
        ("</a>", 1, 1, "never began"),
        ("<a x='1>\n<b/></a>", 2, 1, "not closed"),
        ("<a><b </a>", 1, 7, "not closed"),
        ("<a>1 < 2</a>", 1, 6, "`&lt;`"),
        ("<a><!-- never", 1, 14, "inside a comment"),
        ("<a><![CDATA[never</a>", 1, 22, "inside a CDATA"),
        ("<a", 1, 3, "inside a tag"),
        ("<!-- only -->", 1, 14, "no element"),
        (" <?xml version='1.0'?><a/>", 1, 2, "XML declaration"),
        ("<a/><!DOCTYPE a>", 1, 5, "DOCTYPE"),
        ("<äö>\n<é></é></ä>", 2, 8, "stands where"),
    ];
    for (document, line, column, reason) in cases {
        let error = try_look(document, Known::Earlier(&[])).expect_err(document);
        assert_eq!(error.code(), "xml_invalid", "{document}");
        assert!(error.message().contains(reason), "{document}: {}", error.message());
        let place = error.place().expect("a place");
        assert_eq!((place.line, place.column), (Some(line), Some(column)), "{document}");
    }
}

#[test]
fn what_xml_allows_is_well_formed() {
    for document in [
        "<?xml version='1.0'?>\n<!-- a > b < c --><!DOCTYPE a [<!ENTITY x \"]>\"> <!-- ' ]> -->]>\n<a/>\n<!-- end --><?pi?>",
        "<a b='x > y' c=\"'\"  ><b\n/><c ></c\t></a >",
        "<a><![CDATA[ <b> ]] > ]]></a>",
        "<a.b-c_d:e/>",
    ] {
        try_look(document, Known::Earlier(&[])).expect(document);
    }
}

#[test]
fn ten_thousand_levels_are_taken_and_one_more_is_refused() {
    let nested = |depth: usize| format!("{}x{}", "<a>".repeat(depth), "</a>".repeat(depth));
    try_look(&nested(10_000), Known::Earlier(&[])).expect("deep, but well formed");
    let error = try_look(&nested(10_001), Known::Earlier(&[])).expect_err("too deep");
    assert!(error.message().contains("10000 deep"), "{}", error.message());
}

#[test]
fn tags_names_and_doctypes_without_end_are_refused_in_bounded_memory() {
    struct Endless(&'static [u8], u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if !self.0.is_empty() {
                let n = std::mem::take(&mut self.0).read(buffer)?;
                return Ok(n);
            }
            buffer.fill(b'a');
            self.1 = self.1.saturating_sub(buffer.len() as u64);
            Ok(if self.1 == 0 { 0 } else { buffer.len() })
        }
    }
    for (begin, reason) in
        [(&b"<"[..], "element name"), (b"<!DOCTYPE ", "DOCTYPE"), (b"<a b='", "inside a tag"), (b"<a></", "inside a tag")]
    {
        let mut most = 0;
        let error = look(Box::new(Endless(begin, 64 << 20)), "f", Known::Earlier(&[]), Rigour::Strict, |taken| {
            most = most.max(taken);
            Ok(())
        })
        .expect_err(reason);
        assert!(error.message().contains(reason), "{}", error.message());
        assert!(most < 4 << 20, "{reason}: {most} bytes were held");
    }
}

#[test]
fn the_look_reports_every_byte_and_can_be_ended() {
    let mut bytes = 0;
    look(Box::new(&b"<a>text</a>"[..]), "f", Known::Earlier(&[]), Rigour::Strict, |taken| {
        bytes += taken;
        Ok(())
    })
    .expect("well formed");
    assert_eq!(bytes, 11);
    let stop = |_| Err(Error::new(Kind::Interrupted, longshore_core::error::code::INTERRUPTED, "stop"));
    assert_eq!(
        look(Box::new(&b"<a/>"[..]), "f", Known::Earlier(&[]), Rigour::Strict, stop).expect_err("ended").code(),
        "interrupted"
    );
}

#[test]
fn records_are_passed_over_to_their_own_end() {
    // From the second on they are records, whose inside is not looked at; none of these holds one that ends early or late.
    for inside in [
        "<a>1</a>",
        "<r><a/></r>",
        "<r/><r a='1' /><r></r >",
        "<!-- </r> --><a/>",
        "<![CDATA[</r>]]>",
        "<?go </r>?>",
        "<rr></rr><r.x/>",
        "text! why? </not",
        "<r\n><r>2</r></r\t>",
    ] {
        let inside = inside.replace("</not", "");
        let document = format!("<all><t>{}</t><u><s>1</s><s>2</s></u></all>", format!("<r>{inside}</r>").repeat(5));
        assert_eq!(records(&document).len(), 2, "{document}");
    }
    let at = |document: &str| try_look(document, Known::Earlier(&[])).expect_err("broken").place().cloned().expect("a place");
    assert_eq!(at("<t><r/><r/>\n<r><a></b></r><r/></t>").column, Some(7));
}
