"""Microsoft Clarity's Data Export API as history that an ad agency can trust and act on."""
