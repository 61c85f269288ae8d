"""The directory that `api_extensions_path` names: Neutron loads every module in it whose name does not begin with `_`."""
