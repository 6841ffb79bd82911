//! `pg_get_keywords()`: the words that the parser knows, for drivers that quote names. A word is
//! reserved if the parser refuses it as a table's or column's name without quotes.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    common::Result as DfResult,
    datasource::{MemTable, provider_as_source},
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    sql::sqlparser::keywords::{
        ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER,
    },
};

/// Plans a call: one row a word, in PostgreSQL's columns.
pub fn plan() -> DfResult<LogicalPlan> {
    let reserved: Vec<bool> = ALL_KEYWORDS_INDEX
        .iter()
        .map(|word| {
            RESERVED_FOR_IDENTIFIER.contains(word) || RESERVED_FOR_COLUMN_ALIAS.contains(word)
        })
        .collect();
    let choose = |yes: &'static str, no: &'static str| {
        StringArray::from_iter_values(reserved.iter().map(|is| if *is { yes } else { no }))
    };
    let words = ALL_KEYWORDS.iter().map(|word| word.to_lowercase());
    let columns: [(&str, ArrayRef); 5] = [
        ("word", Arc::new(StringArray::from_iter_values(words))),
        ("catcode", Arc::new(choose("R", "U"))),
        ("barelabel", Arc::new(BooleanArray::from_iter(reserved.iter().map(|is| Some(!is))))),
        ("catdesc", Arc::new(choose("reserved", "unreserved"))),
        ("baredesc", Arc::new(choose("requires AS", "can be bare label"))),
    ];
    let field = |(name, array): &(&str, ArrayRef)| {
        let data_type: &DataType = array.data_type();
        Field::new(*name, data_type.clone(), false)
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    let table = Arc::new(MemTable::try_new(schema, vec![vec![batch]])?);
    LogicalPlanBuilder::scan("pg_get_keywords", provider_as_source(table), None)?.build()
}
