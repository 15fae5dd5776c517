"""Maps over pictures: everything that draws or measures one. Knows no model of ours."""
