use super::super::fuzz::json;
use super::*;

fn parse_with(entities: &Entities, record: &str) -> Result<serde_json::Value, Wrong> {
    let mut tape = Tape::default();
    let clashes = BTreeSet::new();
    let index = Parser::new(entities, &clashes).record(record, &mut tape)?;
    Ok(json(&tape, index))
}

fn parse(record: &str) -> String {
    parse_with(&Entities::default(), record).expect(record).to_string()
}

fn code(record: &str) -> &'static str {
    parse_with(&Entities::default(), record).expect_err(record).code
}

#[test]
fn attributes_and_children_are_members_and_nested_elements_are_objects() {
    let record =
        "<Client ClientID=\"QX7\">\n  <Name>Quill &amp; Co</Name>\n  <Site><Town>Bergen</Town><Zip>0123</Zip></Site>\n</Client>";
    assert_eq!(parse(record), r#"{"ClientID":"QX7","Name":"Quill & Co","Site":{"Town":"Bergen","Zip":"0123"}}"#);
}

#[test]
fn children_of_one_name_become_one_array_at_the_place_of_the_first() {
    let record = "<r><i>1</i><k>x</k><i><d>2</d><d>3</d></i><i/></r>";
    assert_eq!(parse(record), r#"{"i":["1",{"d":["2","3"]},""],"k":"x"}"#);
}

#[test]
fn an_attribute_beside_an_element_of_its_name_is_called_attr() {
    assert_eq!(parse("<r id='1'><id>2</id></r>"), r#"{"id_attr":"1","id":"2"}"#);
    assert_eq!(parse("<r id='1'><s id='3'/></r>"), r#"{"id":"1","s":{"id":"3"}}"#);
}

#[test]
fn an_attribute_known_to_clash_is_called_attr_in_every_record() {
    let entities = Entities::default();
    let clashes = BTreeSet::from(["s/id".to_owned()]);
    let mut tape = Tape::default();
    let mut parser = Parser::new(&entities, &clashes);
    let index = parser.record("<r id='1'><s id='2'/></r>", &mut tape).expect("parses");
    assert_eq!(json(&tape, index).to_string(), r#"{"id":"1","s":{"id_attr":"2"}}"#);
    parser.record("<r id='1'><t/><id/></r>", &mut tape).expect("parses");
    assert_eq!(parser.found_clashes().collect::<Vec<_>>(), ["id"]);
}

#[test]
fn text_beside_attributes_or_children_is_kept_exactly_and_blank_text_is_formatting() {
    assert_eq!(parse("<r><p c='EUR'> 12.50 </p></r>"), r#"{"p":{"c":"EUR","_text":" 12.50 "}}"#);
    assert_eq!(parse("<r>\n a <b>c</b> d\n</r>"), r#"{"b":"c","_text":"\n a  d\n"}"#);
    assert_eq!(parse("<r><p c='EUR'>\n </p></r>"), r#"{"p":{"c":"EUR"}}"#);
    assert_eq!(parse("<r>  only text </r>"), r#"{"_text":"  only text "}"#);
    assert_eq!(parse("<r><a> 1E+2 </a><b>  </b></r>"), r#"{"a":" 1E+2 ","b":"  "}"#);
}

#[test]
fn nil_is_null_and_an_empty_element_is_the_empty_text() {
    let record = "<r xmlns:xsi='u'><a xsi:nil='true'/><b/><c></c><d xsi:nil=\"1\"></d><e xsi:nil='false'>x</e><f xsi:nil='true' why='z'/></r>";
    assert_eq!(parse(record), r#"{"a":null,"b":"","c":"","d":null,"e":"x","f":{"why":"z"}}"#);
    assert_eq!(parse("<r/>"), "{}");
    assert_eq!(parse("<r xsi:nil='true'></r>"), "{}");
}

#[test]
fn namespaces_are_declarations_and_not_columns() {
    let record = "<p:r xmlns:p='u' xmlns='v' xsi:type='t'><p:a p:x='1'>2</p:a><q:a xml:lang='no'/></p:r>";
    assert_eq!(parse(record), r#"{"a":[{"x":"1","_text":"2"},{"lang":"no"}]}"#);
    assert_eq!(parse("<r a:x='1' b:x='2'/>"), r#"{"x":["1","2"]}"#);
}

#[test]
fn character_data_references_comments_and_instructions_are_read() {
    assert_eq!(parse("<r><a>x<![CDATA[<&>]]>&lt;&#65;&#x42;&apos;<!-- no --><?no?>y</a></r>"), r#"{"a":"x<&><AB'y"}"#);
    assert_eq!(parse("<r><a b='1'><![CDATA[ ]]></a></r>"), r#"{"a":{"b":"1","_text":" "}}"#);
}

#[test]
fn line_ends_are_line_feeds_and_blanks_in_attributes_are_spaces() {
    assert_eq!(parse("<r><a>x\r\ny\rz\n</a><b><![CDATA[1\r\n2]]></b></r>"), r#"{"a":"x\ny\nz\n","b":"1\n2"}"#);
    assert_eq!(parse("<r a='x\r\ny\tz&#10;w&amp;'/>"), "{\"a\":\"x y z\\nw&\"}");
    assert_eq!(parse("<r><a>x&#13;y</a></r>"), r#"{"a":"x\ry"}"#);
}

#[test]
fn a_record_that_is_not_valid_is_turned_away_with_its_place() {
    for record in [
        "<r a=1/>",
        "<r a/>",
        "<r a='1'b='2'/>",
        "<r a='1' a='2'/>",
        "<r><1/></r>",
        "<r a='<'/>",
        "<r><!x></r>",
        "<r></s>",
        "<r>",
        "",
        "<r/>x",
        "<r =''/>",
    ] {
        assert_eq!(code(record), "xml_record_invalid", "{record}");
    }
    assert_eq!(code("<r>a & b</r>"), "xml_entity_unknown");
    assert_eq!(code("<r a='&nbsp;'/>"), "xml_entity_unknown");
    let wrong = parse_with(&Entities::default(), "<r><a>x</a><b c='1' c='2'/></r>").expect_err("twice");
    assert_eq!(wrong.at, 20);
}

#[test]
fn a_wrong_record_leaves_the_tape_as_it_was_and_the_next_one_is_read() {
    let (entities, clashes) = (Entities::default(), BTreeSet::new());
    let mut parser = Parser::new(&entities, &clashes);
    let mut tape = Tape::default();
    parser.record("<r><a>1</a></r>", &mut tape).expect("fine");
    parser.record("<r><a>1</a><new><x>1</x>&bad;</new></r>", &mut tape).expect_err("a bad reference");
    let index = parser.record("<r><new>2</new><a>3</a></r>", &mut tape).expect("fine");
    assert_eq!(json(&tape, 0).to_string(), r#"{"a":"1"}"#);
    assert_eq!(json(&tape, index).to_string(), r#"{"new":"2","a":"3"}"#);
}

#[test]
fn entities_of_the_document_are_expanded_in_text_and_attributes() {
    let entities = Entities::from_doctype(br#"<!DOCTYPE r [<!ENTITY co "Quill &amp; Sons"><!ENTITY ext SYSTEM "x.txt">]>"#);
    let found = parse_with(&entities, "<r a='&co;'><b>at &co;!</b></r>").expect("declared");
    assert_eq!(found.to_string(), r#"{"a":"Quill & Sons","b":"at Quill & Sons!"}"#);
    assert_eq!(parse_with(&entities, "<r>&ext;</r>").expect_err("outside").code, "xml_external_entity");
}

#[test]
fn a_bomb_of_entities_is_turned_away() {
    let doctype = format!("<!DOCTYPE r [<!ENTITY a \"{}\"><!ENTITY b \"{}\">]>", "x".repeat(2000), "&a;".repeat(2000));
    let entities = Entities::from_doctype(doctype.as_bytes());
    assert_eq!(parse_with(&entities, "<r>&b;</r>").expect_err("too much").code, "xml_entity_limit");
    parse_with(&entities, "<r>&a;</r>").expect("a little");
}

#[test]
fn nesting_beyond_what_a_value_may_have_is_turned_away() {
    let nested = |depth: usize| format!("{}<b/>{}", "<a>".repeat(depth), "</a>".repeat(depth));
    parse_with(&Entities::default(), &nested(90)).expect("deep");
    assert_eq!(code(&nested(9_999)), "xml_too_deep");
}

#[test]
fn ten_thousand_columns_are_read_and_looked_up_in_any_order() {
    let columns: Vec<usize> = (0..10_000).collect();
    let record = |order: &mut dyn Iterator<Item = &usize>| {
        let children: String = order.map(|i| format!("<c{i}>{i}</c{i}>")).collect();
        format!("<r>{children}</r>")
    };
    let (entities, clashes) = (Entities::default(), BTreeSet::new());
    let mut parser = Parser::new(&entities, &clashes);
    let mut tape = Tape::default();
    for document in [record(&mut columns.iter()), record(&mut columns.iter().rev())] {
        let index = parser.record(&document, &mut tape).expect("wide");
        assert_eq!(tape.members(index).count(), 10_000);
    }
}
