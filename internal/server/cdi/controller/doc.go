// Package controller is the role cdi-controller (Deployment cdi-deployment): it turns DataVolumes into claims with data in them.
//
// One reconciler each:
//
//	datavolume      DataVolume -> claim with annotations; claim's annotations -> DataVolume's status
//	claim           claim's annotations -> worker pods; worker pods -> claim's annotations
//	populator       claims of users that refer to Volume{Import,Upload,Clone}Source
//	profile         StorageClass -> StorageProfile
//	config          CDIConfig's status
//	datasource      DataSource's status
//	importcron      DataImportCron -> DataVolumes of boot sources
//	transfer        ObjectTransfer
//
// workerpod renders the pods; settings, class, clonetoken, issue and progress are what several reconcilers ask.
package controller
